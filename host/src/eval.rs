//! Evaluation: judging, win rates, reward-model accuracy, localisation, efficiency. Every figure is defined in
//! docs/evaluation.md.

pub mod agreement;
pub mod efficiency;
pub mod judge_calibration;
pub mod judge_rates;
pub mod judging;
pub mod length_control;
pub mod localisation;
pub mod over_seeds;
pub mod paired_difference;
pub mod panel;
pub mod reward_accuracy;
pub mod reward_judge;
pub mod sequence_rewards;
pub mod statistics;
pub mod verdict;
pub mod win_rate;

pub use agreement::Agreement;
pub use efficiency::{Efficiency, EvaluationPoint, Milestone, first_reaching};
pub use judge_calibration::{Calibration, JudgeCalibration};
pub use judge_rates::{ByPrompt, JudgeRates, by_prompt};
pub use judging::{Contest, Judge, Outcome, judge_both_orders};
pub use length_control::LengthControl;
pub use localisation::{Localisation, Mark, MarkedResponse};
pub use over_seeds::{OverSeeds, Seeded};
pub use paired_difference::{ExactTest, PairedDifference, Support};
pub use panel::{MemberOutcome, Panel};
pub use reward_accuracy::{Accuracy, AccuracyCell, PairSource, RankedPair};
pub use reward_judge::RewardJudge;
pub use sequence_rewards::{ScoredText, SequenceReward, sequence_rewards};
pub use verdict::{Circumstances, Limit, Verdict};
pub use win_rate::{SeedOutcomes, WinRate};
