//! What a stage has set aside, counted: for the terminal, `result.json` and the report.

use std::collections::BTreeMap;

use crate::data::jsonl;
use crate::data::records::{SetAside, counted};
use crate::error::Result;
use crate::pipeline::stages::SET_ASIDE;
use crate::pipeline::store::Artifact;
use crate::pipeline::variant::VariantRun;
use crate::report::SetAsideRow;

fn read(artifact: &Artifact) -> Result<Vec<SetAside>> {
    let path = artifact.file(SET_ASIDE);
    if path.is_file() {
        jsonl::read(&path)
    } else {
        Ok(Vec::new())
    }
}

/// `12 rows are set aside: 9 identical, 3 refused (FILE)`; `None` where a stage has set none aside.
pub fn in_words(artifact: &Artifact) -> Result<Option<String>> {
    let rows = read(artifact)?;
    let (n, verb) = match rows.len() {
        0 => return Ok(None),
        1 => ("1 row".to_owned(), "is"),
        n => (format!("{n} rows"), "are"),
    };
    let path = artifact.file(SET_ASIDE);
    Ok(Some(format!(
        "{n} {verb} set aside: {} ({})",
        counted(&rows),
        path.display()
    )))
}

/// What the stages of runs have set aside; a stage that several runs share counts once, for the first of them.
pub fn of_runs(variants: &[Vec<VariantRun>]) -> Result<Vec<SetAsideRow>> {
    let mut seen = Vec::new();
    let mut found = Vec::new();
    for run in variants.iter().flatten() {
        for artifact in run.stages() {
            if seen.contains(&&artifact.key) {
                continue;
            }
            seen.push(&artifact.key);
            let mut by_reason: BTreeMap<_, (usize, String)> = BTreeMap::new();
            for row in read(artifact)? {
                let (n, _) = by_reason.entry(row.reason).or_insert((0, row.id));
                *n += 1;
            }
            for (reason, (rows, first)) in by_reason {
                found.push(SetAsideRow {
                    stage: artifact.record.stage.clone(),
                    variant: run.config.name.clone(),
                    seed: run.config.seed,
                    reason: reason.name().to_owned(),
                    rows,
                    first,
                });
            }
        }
    }
    Ok(found)
}
