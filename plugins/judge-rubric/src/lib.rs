//! Judge `rubric`: the sandbox's evaluator and annotator of preferences, which compares two responses by the hidden rubric.

mod judge;

pub use judge::{Options, RubricJudge};

finegrain_sdk::register!(Judge, RubricJudge);
finegrain_sdk::export_plugin!();
