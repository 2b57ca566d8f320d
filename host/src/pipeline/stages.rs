//! The stages, one file each: `obtain` says what determines the result and computes it where the store has none.

pub mod data;
pub mod edits;
pub mod evaluate;
pub mod judge_calibration;
pub mod judge_model;
pub mod pairs;
pub mod ppo;
pub mod reward_model;
pub mod reward_tests;
pub mod sft;
pub mod token_views;

/// Demonstrations for SFT.
pub const DEMONSTRATIONS: &str = "demonstrations.jsonl";
/// Prompts whose samples become preference pairs.
pub const REWARD_PROMPTS: &str = "reward_prompts.jsonl";
/// Prompts of PPO's rollouts.
pub const PPO_PROMPTS: &str = "ppo_prompts.jsonl";
/// Prompts of the final evaluation; nothing else sees them.
pub const EVAL_PROMPTS: &str = "eval_prompts.jsonl";
/// Preference pairs to train on.
pub const PAIRS: &str = "pairs.jsonl";
/// Preference pairs to test on.
pub const HELD_OUT_PAIRS: &str = "pairs_held_out.jsonl";
/// Preference pairs on which the judge's reward model is trained.
pub const JUDGE_PAIRS: &str = "judge_pairs.jsonl";
/// A reference model's outputs for the prompts of the final evaluation; there where a file has them.
pub const EVAL_REFERENCES: &str = "eval_references.jsonl";
/// Edit pairs to train on.
pub const EDITS: &str = "edits.jsonl";
/// Edit pairs to test on.
pub const HELD_OUT_EDITS: &str = "edits_held_out.jsonl";
/// What an editor made of each response that is to train on, refusals and failures included, with where it came from.
pub const EDIT_ANSWERS: &str = "answers_train.jsonl";
/// The same of each response that is to test on.
pub const HELD_OUT_EDIT_ANSWERS: &str = "answers_held_out.jsonl";
/// Edit pairs on which the judge's reward model is trained.
pub const JUDGE_EDITS: &str = "judge_edits.jsonl";
/// Rows that are not used, with the reason.
pub const SET_ASIDE: &str = "set_aside.jsonl";
/// Where the verdicts of a stage's judges came from, where those say so.
pub const ORIGINS: &str = "origins.jsonl";
/// A folder with a model in it.
pub const MODEL: &str = "model";
