//! How the judge judged the contests of a comparison, beside the win rates that follow from it.

use serde::{Deserialize, Serialize};

use crate::eval::{Agreement, JudgeRates, OverSeeds, WinRate};

/// How the judges of a comparison judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Judging {
    /// Over all variants and seeds: the judge or, of a panel, the panel and then each of its judges.
    pub judges: Vec<JudgeRow>,
    /// The same for each variant, where there are several: lengths differ between variants.
    pub of_variants: Vec<JudgeRow>,
    /// The win rates that each judge of a panel alone gives.
    pub members: Vec<MemberWinRate>,
    /// How far the judges of a panel agree, every two of them.
    pub agreements: Vec<Agreement>,
    /// Contests that some judges of a panel answered and others failed on; the preference is the mean of the answers.
    pub judged_by_some: usize,
}

/// How one judge judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeRow {
    /// The judge; `panel` for all of a panel together.
    pub judge: String,
    /// The variant; `None` over all of them.
    pub variant: Option<String>,
    /// Its rates.
    pub rates: JudgeRates,
}

/// The win rate of a variant by one judge of a panel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberWinRate {
    /// The judge.
    pub judge: String,
    /// The variant.
    pub variant: String,
    /// What it comes to by this judge alone.
    pub win_rate: OverSeeds<WinRate>,
}
