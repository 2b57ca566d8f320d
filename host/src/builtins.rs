//! The plugins that are part of this binary.
//!
//! A crate that is only named in Cargo.toml is dropped by the linker, its registrations with it: each has to be mentioned.

use finegrain_advantage_gae as _;
use finegrain_editor_human as _;
use finegrain_editor_rubric as _;
use finegrain_judge_rubric as _;
use finegrain_reward_sequence as _;
use finegrain_reward_token_average as _;
