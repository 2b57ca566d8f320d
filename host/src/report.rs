//! What `compare` found, as a value, and as terminal tables, Markdown and JSON.
//!
//! [`comparison`] holds the figures; `win_rates`, `reward_models` and `costs` lay Tables 1, 2 and 3 out as
//! sheets, `judges` how the judge judged; [`tables`] and [`markdown`] print sheets. [`html`] lays them out beside curves, calibration and token views.
//! JSON is the value itself, by serde.

mod asked;
mod calibration;
pub mod comparison;
mod costs;
mod csv_files;
mod figures;
pub mod html;
pub mod judge_calibration;
mod judges;
pub mod markdown;
mod reward_models;
mod runs;
mod set_aside;
mod sheet;
pub mod tables;
mod win_rates;

pub use comparison::{
    AskedRow, ComparisonResult, CostRow, JudgeRow, Judging, LocalisationCell, LongerCell,
    MemberWinRate, RewardModels, RunCost, SetAsideRow, Variant, WinRateRow,
};

use sheet::Sheet;

/// All sheets, in the order of the tables.
fn sheets(result: &ComparisonResult) -> Vec<Sheet> {
    [
        win_rates::sheets(result),
        judges::sheets(result),
        reward_models::sheets(result),
        costs::sheets(result),
        asked::sheets(result),
        set_aside::sheets(result),
    ]
    .concat()
}
