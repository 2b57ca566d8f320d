//! How long a stage may take, by the stages of its kind that the store has: the time of those that are most alike.
//!
//! Two stages are compared by everything that determined them and their inputs, seeds and hashes of plugins apart. The
//! estimate is the median time of those that differ in the fewest settings, and says in which. It is not scaled: how long a
//! stage takes with twice the steps is not known here, and neither is on which machine and with how many threads the others ran.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use serde::Serialize;
use serde_json::Value;

use crate::error::Result;
use crate::pipeline::store::{StageKey, StageRecord, Store, named};

/// How long a stage may take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The median of the seconds that the stages most alike took.
    pub seconds: f64,
    /// How many there are.
    pub from: usize,
    /// The settings in which the first of them differs from this one: none where only seeds, plugins' code or texts do.
    pub differs_in: Vec<String>,
}

/// Settings with their values: `(data.sandbox.n_demonstrations, 512)`.
type Settings = BTreeSet<(String, String)>;

/// The stages that a store has.
pub(super) struct Past<'a> {
    store: &'a Store,
    /// What determines the stages of a plan, made or not.
    planned: HashMap<String, &'a Value>,
    /// The settings of artifacts that were looked at, by `stage/hash`.
    known: HashMap<String, Rc<Settings>>,
    /// The records of a stage, by its name.
    records: HashMap<String, Rc<Vec<StageRecord>>>,
}

impl<'a> Past<'a> {
    /// The past of a plan whose stages have these keys.
    pub(super) fn new(store: &'a Store, planned: &'a [StageKey]) -> Self {
        Self {
            store,
            planned: planned
                .iter()
                .map(|key| (key.to_string(), key.description()))
                .collect(),
            known: HashMap::new(),
            records: HashMap::new(),
        }
    }

    /// The estimate of one of the plan's stages; `None` where the store has no stage of its kind.
    pub(super) fn estimate(&mut self, key: &StageKey) -> Result<Option<Estimate>> {
        if !self.records.contains_key(key.stage()) {
            let records = Rc::new(self.store.peek_all(key.stage())?);
            self.records.insert(key.stage().to_owned(), records);
        }
        let records = Rc::clone(&self.records[key.stage()]);
        let ours = self.settings(&key.to_string())?;
        let mut nearest: Vec<(f64, Vec<String>)> = Vec::new();
        let mut least = usize::MAX;
        for record in &*records {
            let theirs = self.settings_of(&record.stage, &record.hash, &record.key)?;
            let differing: Vec<_> = ours.symmetric_difference(&theirs).collect();
            if differing.len() < least {
                least = differing.len();
                nearest.clear();
            }
            if differing.len() == least {
                let names: BTreeSet<String> =
                    differing.iter().map(|(name, _)| short(name)).collect();
                nearest.push((record.wall_seconds, names.into_iter().collect()));
            }
        }
        let from = nearest.len();
        let differs_in = nearest.first().map(|(_, names)| names.clone());
        let mut seconds: Vec<f64> = nearest.into_iter().map(|(seconds, _)| seconds).collect();
        seconds.sort_by(f64::total_cmp);
        Ok(differs_in.map(|differs_in| Estimate {
            seconds: f64::midpoint(seconds[(from - 1) / 2], seconds[from / 2]),
            from,
            differs_in,
        }))
    }

    /// The settings of an artifact and of all that it is made from; of one that nobody knows, none.
    fn settings(&mut self, id: &str) -> Result<Rc<Settings>> {
        if let Some(settings) = self.known.get(id) {
            return Ok(Rc::clone(settings));
        }
        let Some((stage, hash)) = named(id) else {
            return Ok(Rc::default());
        };
        if let Some(&description) = self.planned.get(id) {
            return self.settings_of(stage, hash, description);
        }
        match self.store.peek(stage, hash)? {
            Some(record) => self.settings_of(stage, hash, &record.key),
            None => Ok(Rc::default()),
        }
    }

    fn settings_of(&mut self, stage: &str, hash: &str, of: &Value) -> Result<Rc<Settings>> {
        let id = format!("{stage}/{hash}");
        if let Some(settings) = self.known.get(&id) {
            return Ok(Rc::clone(settings));
        }
        let mut settings = Settings::new();
        self.collect(stage, of, &mut settings)?;
        let settings = Rc::new(settings);
        self.known.insert(id, Rc::clone(&settings));
        Ok(settings)
    }

    fn collect(&mut self, path: &str, value: &Value, settings: &mut Settings) -> Result<()> {
        match value {
            Value::Object(values) => {
                for (name, value) in values {
                    // A seed decides what comes out, and next to nothing about how long that takes; so does plugins' code.
                    if name != "seed" && name != "rubric" {
                        self.collect(&format!("{path}.{name}"), value, settings)?;
                    }
                }
            }
            Value::Array(values) => {
                for (at, value) in values.iter().enumerate() {
                    self.collect(&format!("{path}.{at}"), value, settings)?;
                }
            }
            Value::String(text) if named(text).is_some() => {
                settings.extend(self.settings(text)?.iter().cloned());
            }
            Value::String(text) => {
                let plugin = text
                    .split_once("@sha256:")
                    .or_else(|| text.split_once("@sources:"));
                let text = plugin.map_or(text.as_str(), |(plugin, _)| plugin);
                settings.insert((path.to_owned(), text.to_owned()));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {
                settings.insert((path.to_owned(), value.to_string()));
            }
        }
        Ok(())
    }
}

/// A setting without its stage: `sft.sft.epochs` as `sft.epochs`.
fn short(name: &str) -> String {
    name.split_once('.')
        .map_or(name, |(_, setting)| setting)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::pipeline::store::record::{RECORD, SEAL, expected};
    use crate::pipeline::store::sha256;

    /// Puts an artifact into a store that took so long.
    fn put(root: &Path, key: &StageKey, seconds: f64) {
        let record = StageRecord {
            wall_seconds: seconds,
            ..expected(key)
        };
        let dir = root.join(key.stage()).join(key.hash());
        fs::create_dir_all(&dir).unwrap();
        let text = serde_json::to_vec(&record).unwrap();
        fs::write(dir.join(SEAL), sha256(&text)).unwrap();
        fs::write(dir.join(RECORD), text).unwrap();
    }

    fn keys(rows: u64, steps: u64, seed: u64) -> [StageKey; 2] {
        let data = StageKey::new("data", json!({ "rows": rows, "seed": seed }));
        let plugin = format!("reward/x@sha256:{seed}");
        let of = json!({ "data": data, "ppo": { "steps": steps }, "plugin": plugin, "seed": seed });
        [data, StageKey::new("ppo", of)]
    }

    #[test]
    fn the_time_is_that_of_the_stages_most_alike_whatever_their_seeds_and_the_difference_is_named()
    {
        let root = tempfile::tempdir().unwrap();
        let store = Store::unopened(root.path());
        let estimate = |rows, steps, seed| {
            let planned = keys(rows, steps, seed);
            let mut past = Past::new(&store, &planned);
            past.estimate(&planned[1]).unwrap()
        };
        assert_eq!(estimate(10, 5, 1), None);
        // Three seeds of ten rows, one of twenty rows and one of other steps.
        for (rows, steps, seed, seconds) in [
            (10, 5, 1, 4.0),
            (10, 5, 2, 1.0),
            (10, 5, 3, 2.0),
            (20, 5, 1, 50.0),
            (10, 7, 1, 9.0),
        ] {
            let [data, ppo] = keys(rows, steps, seed);
            put(root.path(), &data, 0.5);
            put(root.path(), &ppo, seconds);
        }
        let found = |seconds, from, differs_in: &[&str]| {
            let differs_in = differs_in.iter().map(ToString::to_string).collect();
            Some(Estimate {
                seconds,
                from,
                differs_in,
            })
        };
        assert_eq!(estimate(10, 5, 4), found(2.0, 3, &[]));
        assert_eq!(estimate(20, 5, 2), found(50.0, 1, &[]));
        // The rows are a setting of an input.
        assert_eq!(estimate(30, 7, 1), found(9.0, 1, &["rows"]));
    }
}
