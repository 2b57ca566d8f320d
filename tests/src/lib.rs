//! Helpers of the integration tests: where the shared data and the built plugins lie.

use std::path::PathBuf;

/// A file or folder of the shared material: below `FINEGRAIN_SHARED`, or else below `shared` beside the workspace.
/// `None`, with the reason printed, where it is not there: the test has nothing to compare with.
#[expect(clippy::print_stderr, reason = "a test that is skipped says why")]
pub fn shared(path: &str) -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared");
    let root = std::env::var_os("FINEGRAIN_SHARED").map_or_else(|| beside.into(), PathBuf::from);
    let found = root.join(path);
    if found.exists() {
        return Some(found);
    }
    eprintln!(
        "skipped: {} does not exist; set FINEGRAIN_SHARED",
        found.display()
    );
    None
}
