//! Where outcomes came from: verdicts write it down as they come, and what a stage has of it is summed for whoever pays.
//!
//! Edits have their origins beside them, in [`EDIT_ANSWERS`] and [`HELD_OUT_EDIT_ANSWERS`]. No key and no later stage depends
//! on any of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use finegrain_sdk::CallContext;
use finegrain_sdk::kinds::{Comparisons, Origin, Verdict};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::data::asked::Asked;
use crate::data::jsonl::{self, Log};
use crate::data::records::{EditRecord, Record};
use crate::error::Result;
use crate::eval::Judge;
use crate::pipeline::stages::{EDIT_ANSWERS, HELD_OUT_EDIT_ANSWERS, ORIGINS};
use crate::pipeline::store::Artifact;
use crate::pipeline::variant::VariantRun;
use crate::plugins::JudgeInstance;
use crate::report::AskedRow;

/// Where one verdict came from, a line of [`ORIGINS`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictOrigin {
    /// `JUDGE/STEP/ROW`: the judge's name, the step of the stage, and the row as the judge was asked about it.
    pub id: String,
    /// The judge's name.
    pub judge: String,
    /// Where its verdict came from.
    pub origin: Origin,
}

impl Record for VerdictOrigin {
    const KIND: &'static str = "the origin of a verdict";
    const REQUIRED: &'static [&'static str] = &["id", "judge", "origin"];

    fn id(&self) -> &str {
        &self.id
    }

    fn texts(&self) -> Vec<(&'static str, &str)> {
        Vec::new()
    }
}

/// A judge that writes down where its verdicts came from. There is no file as long as it says nothing about that.
pub struct Recorded {
    name: String,
    judge: JudgeInstance,
    file: PathBuf,
}

impl Recorded {
    /// A judge whose origins go to [`ORIGINS`] in `dir`, under a name that no other judge of the stage has, behind what other judges
    /// and an interrupted attempt have left there.
    pub fn new(name: impl Into<String>, judge: JudgeInstance, dir: &Path) -> Self {
        Self {
            name: name.into(),
            judge,
            file: dir.join(ORIGINS),
        }
    }

    fn write(&self, origins: &[VerdictOrigin]) -> Result<()> {
        if origins.is_empty() {
            return Ok(());
        }
        // Opened for every call: judges of one stage share the file, one call after the other.
        let (mut log, before) = Log::<VerdictOrigin>::open(&self.file)?;
        // An attempt that ended behind its verdicts has left their origins; it is asked the same again.
        let known: BTreeSet<&String> = before.iter().map(|origin| &origin.id).collect();
        let new = origins.iter().filter(|origin| !known.contains(&origin.id));
        for origin in new {
            log.append(origin)?;
        }
        Ok(())
    }
}

impl Judge for Recorded {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn compare(
        &self,
        comparisons: &Comparisons<'_>,
        context: &CallContext<'_>,
    ) -> Result<Vec<(Verdict, String)>> {
        // In the order of the rows, which does not depend on when answers came.
        let judgements = self.judge.compare_all(comparisons, context)?;
        let name = &self.name;
        let (mut verdicts, mut origins) = (Vec::with_capacity(judgements.len()), Vec::new());
        for (row, judgement) in judgements.into_iter().enumerate() {
            verdicts.push((judgement.verdict, judgement.reason));
            origins.extend(judgement.origin.map(|origin| VerdictOrigin {
                id: format!("{name}/{}/{}", context.step, comparisons.ids.row(row)),
                judge: name.clone(),
                origin,
            }));
        }
        self.write(&origins)?;
        Ok(verdicts)
    }
}

/// What the plugins of a stage were answered, by plugin; empty where they asked nobody.
///
/// # Errors
/// A file that cannot be read.
pub fn of_stage(config: &Config, artifact: &Artifact) -> Result<Vec<Asked>> {
    let mut edits = Vec::new();
    for name in [EDIT_ANSWERS, HELD_OUT_EDIT_ANSWERS] {
        let path = artifact.file(name);
        if path.is_file() {
            let records: Vec<EditRecord> = jsonl::read(&path)?;
            edits.extend(records.into_iter().filter_map(|record| record.origin));
        }
    }
    let editor = format!("editor/{}", config.editor.plugin);
    let mut asked: Vec<Asked> = Asked::of(editor, &edits).into_iter().collect();
    asked.extend(asked_of(&verdicts_in(&artifact.file(ORIGINS))?));
    Ok(asked)
}

/// The lines of a file of [`ORIGINS`]; none where there is no such file, for then nobody was asked.
///
/// # Errors
/// A file that cannot be read.
pub fn verdicts_in(path: &Path) -> Result<Vec<VerdictOrigin>> {
    if path.is_file() {
        jsonl::read(path)
    } else {
        Ok(Vec::new())
    }
}

/// What judges were answered, by their names.
pub fn asked_of(verdicts: &[VerdictOrigin]) -> Vec<Asked> {
    let mut by_judge: BTreeMap<&str, Vec<&Origin>> = BTreeMap::new();
    for verdict in verdicts {
        by_judge
            .entry(&verdict.judge)
            .or_default()
            .push(&verdict.origin);
    }
    by_judge
        .into_iter()
        .filter_map(|(name, all)| Asked::of(format!("judge/{name}"), all))
        .collect()
}

/// What the stages of runs asked for; a stage that several runs share counts once, for the first of them.
///
/// # Errors
/// As [`of_stage`].
pub fn of_runs(variants: &[Vec<VariantRun>]) -> Result<Vec<AskedRow>> {
    let mut seen = Vec::new();
    let mut rows = Vec::new();
    for run in variants.iter().flatten() {
        for artifact in run.stages() {
            if seen.contains(&&artifact.key) {
                continue;
            }
            seen.push(&artifact.key);
            let asked = of_stage(&run.config, artifact)?.into_iter();
            rows.extend(asked.map(|asked| AskedRow {
                stage: artifact.record.stage.clone(),
                variant: run.config.name.clone(),
                seed: run.config.seed,
                asked,
            }));
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;
