//! `finegrain plugin new`: a crate with a small plugin that works, for its author to change.
//!
//! The templates are ordinary modules; the tests of this crate compile them and run their tests.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::plugins::identity::PluginKind;
use crate::plugins::registry::is_name;

/// What a template is called, to be replaced.
const NAME: &str = "my-plugin";
const TYPE: &str = "MyPlugin";

/// Where the new crate finds the SDK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sdk {
    /// A folder, the `sdk` of a checkout of finegrain.
    Folder(PathBuf),
    /// A release of this version or a later one of the same line.
    Version(String),
}

impl Sdk {
    /// The SDK that this binary was built with: its folder where that is still there, else its version.
    pub fn of_this_build() -> Self {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../sdk"));
        match folder.canonicalize() {
            Ok(folder) => Self::Folder(folder),
            Err(_) => Self::Version(finegrain_sdk::VERSION.to_owned()),
        }
    }

    fn dependency(&self) -> String {
        match self {
            Self::Folder(folder) => {
                format!(
                    "{{ path = {} }}",
                    toml::Value::from(folder.to_string_lossy().as_ref())
                )
            }
            Self::Version(version) => toml::Value::from(version.as_str()).to_string(),
        }
    }
}

/// Writes a crate with a plugin of `kind` called `name` into the new folder `folder`, and returns the files.
///
/// # Errors
/// Wrong input: a name that is no plugin name, a folder that is already there, a place that cannot be written.
pub fn create(kind: PluginKind, name: &str, folder: &Path, sdk: &Sdk) -> Result<Vec<PathBuf>> {
    if !is_name(name) || name.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(Error::input(format!(
            "a plugin cannot be called \"{name}\": lower-case letters, digits and hyphens are accepted, the first a letter"
        )));
    }
    if folder.exists() {
        return Err(
            Error::input(format!("{} is already there", folder.display()))
                .hint("name a folder that does not exist yet"),
        );
    }
    let mut written = Vec::new();
    for (file, text) in files(kind, name, sdk) {
        let path = folder.join(file);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|error| Error::io("create", parent, &error))?;
        std::fs::write(&path, text).map_err(|error| Error::io("write", &path, &error))?;
        written.push(path);
    }
    Ok(written)
}

fn files(kind: PluginKind, name: &str, sdk: &Sdk) -> [(&'static str, String); 3] {
    let (template, kind_trait) = match kind {
        PluginKind::Editor => (include_str!("scaffold/editor.rs"), "Editor"),
        PluginKind::Reward => (include_str!("scaffold/reward.rs"), "RewardScheme"),
        PluginKind::Advantage => (include_str!("scaffold/advantage.rs"), "AdvantageEstimator"),
        PluginKind::Judge => (include_str!("scaffold/judge.rs"), "Judge"),
    };
    let type_name = type_name(name, template);
    let plugin = template.replace(TYPE, &type_name).replace(NAME, name);
    // The templates leave these lines out, for a crate has them once.
    let exported = format!(
        "finegrain_sdk::register!({kind_trait}, {type_name});\nfinegrain_sdk::export_plugin!();\n\n#[cfg(test)]\n"
    );
    let library = plugin.replacen("#[cfg(test)]\n", &exported, 1);
    let package = package(kind, name);
    let manifest = format!(
        "[package]\nname = \"{package}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
         [lib]\ncrate-type = [\"cdylib\"]\n\n[dependencies]\nfinegrain-sdk = {}\n\n\
         # A workspace of its own, wherever the folder lies.\n[workspace]\n",
        sdk.dependency()
    );
    [
        ("Cargo.toml", manifest),
        ("src/lib.rs", library),
        (".gitignore", "/target\n".to_owned()),
    ]
}

fn package(kind: PluginKind, name: &str) -> String {
    format!("finegrain-{kind}-{name}")
}

/// What the author of a new plugin does with it, as text for a terminal.
pub fn what_next(kind: PluginKind, name: &str, folder: &Path) -> String {
    let library = format!(
        "target/release/lib{}.so",
        package(kind, name).replace('-', "_")
    );
    // As the sections of a configuration name their plugins.
    let section = match kind {
        PluginKind::Editor => "[editor]",
        PluginKind::Reward => "[[reward]]",
        PluginKind::Advantage => "[advantage]",
        PluginKind::Judge => "[judge]",
    };
    let anywhere = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let (folder, anywhere) = (folder.display(), anywhere.display());
    format!(
        "\nWhat next, in {folder}:\n\
         \x20 change src/lib.rs; cargo test\n\
         \x20 cargo build --release\n\
         \x20 finegrain plugin info {kind}/{name} --plugin {library}\n\
         And in a configuration:\n\
         \x20 [plugins]\n\
         \x20 paths = [\"{anywhere}/{library}\"]\n\n\
         \x20 {section}\n\
         \x20 use = \"{name}\"\n"
    )
}

/// The type's name: `TokenAverage` for `token-average`, and `JudgePlugin` for `judge`, which the template has already.
fn type_name(name: &str, template: &str) -> String {
    let plain = camel_case(name);
    let mut words = template.split(|letter: char| !letter.is_ascii_alphanumeric());
    if plain == "Self" || words.any(|word| word == plain) {
        plain + "Plugin"
    } else {
        plain
    }
}

/// `token-average` as `TokenAverage`.
fn camel_case(name: &str) -> String {
    name.split('-')
        .flat_map(|word| {
            let mut letters = word.chars();
            let first = letters.next().map(|first| first.to_ascii_uppercase());
            first.into_iter().chain(letters)
        })
        .collect()
}

#[cfg(test)]
#[expect(
    unreachable_pub,
    reason = "a crate of its own exports what is a private module here"
)]
#[allow(dead_code, reason = "nothing but their own tests uses them here")]
#[path = "scaffold"]
mod templates {
    mod advantage;
    mod editor;
    mod judge;
    mod reward;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_written_with_its_names_and_exported_once() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("mine");
        let sdk = Sdk::Folder("/somewhere/sdk".into());
        for (kind, kind_trait) in [
            (PluginKind::Reward, "RewardScheme"),
            (PluginKind::Advantage, "AdvantageEstimator"),
            (PluginKind::Editor, "Editor"),
            (PluginKind::Judge, "Judge"),
        ] {
            let folder = folder.join(kind.as_str());
            assert_eq!(create(kind, "half-price2", &folder, &sdk).unwrap().len(), 3);
            let library = std::fs::read_to_string(folder.join("src/lib.rs")).unwrap();
            let register = format!("finegrain_sdk::register!({kind_trait}, HalfPrice2);");
            assert_eq!(library.matches(&register).count(), 1);
            assert_eq!(library.matches("export_plugin!").count(), 1);
            assert!(library.contains("const NAME: &'static str = \"half-price2\";"));
            assert!(!library.contains(TYPE) && !library.contains(NAME));
            let manifest: toml::Table = std::fs::read_to_string(folder.join("Cargo.toml"))
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(
                manifest["dependencies"]["finegrain-sdk"]["path"].as_str(),
                Some("/somewhere/sdk")
            );
            assert_eq!(
                manifest["package"]["name"].as_str(),
                Some(format!("finegrain-{kind}-half-price2").as_str())
            );
        }
    }

    #[test]
    fn a_name_that_the_template_uses_itself_gets_another_type() {
        let template = include_str!("scaffold/judge.rs");
        assert_eq!(type_name("judge", template), "JudgePlugin");
        assert_eq!(type_name("options", template), "OptionsPlugin");
        assert_eq!(type_name("self", template), "SelfPlugin");
        assert_eq!(type_name("fair", template), "Fair");
    }

    #[test]
    fn nothing_is_overwritten_and_names_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let sdk = Sdk::of_this_build();
        let there = create(PluginKind::Judge, "fair", folder.path(), &sdk).unwrap_err();
        assert_eq!(there.exit_code(), 2);
        for name in ["Fair", "2fair", "", "a/b"] {
            let error = create(PluginKind::Judge, name, &folder.path().join("x"), &sdk);
            assert_eq!(error.unwrap_err().exit_code(), 2, "{name}");
        }
        assert!(!folder.path().join("x").exists());
    }
}
