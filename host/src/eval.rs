//! Evaluation: judging, win rates, reward-model accuracy, localisation, statistics.

pub mod statistics;
