//! The plugins that are part of this binary.
//!
//! A crate that is only named in Cargo.toml is dropped by the linker, its registrations with it: each has to be mentioned.
//! The build script (`host/build.rs`) hashes their sources.

use finegrain_advantage_gae as _;
use finegrain_editor_claude as _;
use finegrain_editor_human as _;
use finegrain_editor_openai as _;
use finegrain_editor_rubric as _;
use finegrain_judge_claude as _;
use finegrain_judge_openai as _;
use finegrain_judge_rubric as _;
use finegrain_reward_sequence as _;
use finegrain_reward_token_average as _;

/// Crates of the workspace that are linked in, with the hash of their sources.
const SOURCES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/built_in_sources.rs"));

/// The SHA-256 of a linked-in crate's sources and of those of the workspace that it depends on, in lower-case
/// hexadecimal; `None` for a crate that is not one of the host's dependencies.
pub(crate) fn sources(package: &str) -> Option<&'static str> {
    let mut crates = SOURCES.iter();
    crates
        .find(|(name, _)| *name == package)
        .map(|(_, hash)| *hash)
}

#[cfg(test)]
mod tests {
    use crate::plugins::Registry;

    #[test]
    fn every_built_in_plugin_is_linked_in() {
        let registry = Registry::built_in().unwrap();
        // Tests of this crate register plugins of their own, called test-….
        let ids: Vec<String> = registry
            .list()
            .iter()
            .filter(|listed| !listed.identity.name.starts_with("test-"))
            .map(|listed| listed.identity.id())
            .collect();
        assert_eq!(
            ids,
            [
                "editor/claude",
                "editor/human",
                "editor/openai",
                "editor/rubric",
                "reward/sequence",
                "reward/token-average",
                "advantage/gae",
                "judge/claude",
                "judge/openai",
                "judge/rubric",
            ]
        );
    }

    #[test]
    fn the_code_of_every_built_in_plugin_is_in_its_fingerprint() {
        let registry = Registry::built_in().unwrap();
        let mut hashes = std::collections::BTreeSet::new();
        for listed in registry.list() {
            let identity = &listed.identity;
            if identity.name.starts_with("test-") {
                continue;
            }
            let hash = identity.sources.clone().unwrap();
            assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
            assert!(identity.fingerprint().ends_with(&hash));
            assert!(hashes.insert(hash), "{} shares a hash", identity.id());
        }
    }
}
