//! Evaluation: judging, win rates, reward-model accuracy, localisation, statistics.

pub mod efficiency;
pub mod judging;
pub mod length_control;
pub mod localisation;
pub mod over_seeds;
pub mod paired_difference;
pub mod reward_accuracy;
pub mod statistics;
pub mod win_rate;
