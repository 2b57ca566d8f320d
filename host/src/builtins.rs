//! The plugins that are part of this binary.
//!
//! A crate that is only named in Cargo.toml is dropped by the linker, its registrations with it: each has to be mentioned.

use finegrain_advantage_gae as _;
use finegrain_editor_human as _;
use finegrain_editor_rubric as _;
use finegrain_judge_rubric as _;
use finegrain_reward_sequence as _;
use finegrain_reward_token_average as _;

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
                "editor/human",
                "editor/rubric",
                "reward/sequence",
                "reward/token-average",
                "advantage/gae",
                "judge/rubric",
            ]
        );
    }
}
