//! What `finegrain plugin new` writes is built, loaded and listed, whatever its kind.

use finegrain::plugins::PluginKind;
use finegrain::plugins::scaffold::{Sdk, create};

use super::build::{build, root, target};
use super::fixtures::registry_with;

#[test]
fn a_new_crate_of_every_kind_builds_and_loads() {
    // Inside the checkout, so that its .cargo/config.toml holds and dependencies that are already built serve again.
    let folder = target().join("fixtures/scaffold");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    let sdk = Sdk::Folder(root().join("sdk"));
    let mut libraries = Vec::new();
    for kind in PluginKind::ALL {
        // Named as its kind, the name that is likeliest to collide with what the template uses.
        let place = folder.join(kind.as_str());
        create(kind, kind.as_str(), &place, &sdk).unwrap();
        // The versions that are already there, since nothing is fetched.
        std::fs::copy(
            root().join("tests/fixtures/Cargo.lock"),
            place.join("Cargo.lock"),
        )
        .unwrap();
        let built = build(&place, &[]);
        libraries.push(built[&format!("finegrain-{kind}-{kind}")].clone());
    }
    let registry = registry_with(&libraries).unwrap();
    for kind in PluginKind::ALL {
        let listed = registry.info(kind, kind.as_str()).unwrap();
        assert!(listed.identity.sha256.is_some());
        assert!(!listed.descriptor.info.summary.is_empty(), "{kind}");
    }
}
