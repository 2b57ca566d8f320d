//! `[sweep]`: a grid over keys of the configuration. Every point is a variant of its own, set as by `--set`.
//!
//! ```toml
//! [sweep]
//! "ppo.learning_rate" = [1e-5, 3e-5]
//! "ppo.kl_coef" = [0.05, 0.2]
//! ```

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::layers::Layers;
use super::overrides;
use crate::error::{Error, Result};

/// The section's name.
pub(super) const SWEEP: &str = "sweep";

/// Points that a grid may have; more are taken for a mistake.
const MAX_POINTS: usize = 64;

/// Keys that tell variants apart, which a grid does itself, or that have a way of their own.
const NOT_SWEPT: [(&str, &str); 4] = [
    (
        "seed",
        "seeds are not variants: `finegrain compare --seeds 1,2,3`",
    ),
    ("name", "the points are named by their values"),
    ("title", "the points are named by their values"),
    (
        "base",
        "name the files themselves: `finegrain compare a.toml b.toml`",
    ),
];

/// A key and the values that it takes.
struct Axis {
    key: String,
    values: Vec<Value>,
    /// What stands for each value in names.
    labels: Vec<String>,
}

/// A grid.
pub(super) struct Sweep {
    axes: Vec<Axis>,
}

impl Sweep {
    /// The grid out of a table of lists; `origin` says where a dotted key was written.
    pub(super) fn parse(table: &Table, origin: impl Fn(&str) -> String) -> Result<Self> {
        let mut lists = Vec::new();
        flatten(table, "", &mut lists);
        let mut axes = Vec::with_capacity(lists.len());
        for (key, value) in lists {
            let at = format!("{}: {SWEEP}.{key}", origin(&key));
            if let Some((_, hint)) = NOT_SWEPT.iter().find(|(name, _)| *name == key) {
                return Err(Error::input(format!("{at}: cannot be swept over")).hint(*hint));
            }
            let Value::Array(values) = value else {
                return Err(Error::input(format!(
                    "{at}: found {}, expected a list of values",
                    value.type_str()
                ))
                .hint(format!("{key:?} = [{value}]")));
            };
            if values.is_empty() {
                return Err(Error::input(format!("{at}: the list is empty"))
                    .hint("name a value, or leave out the key"));
            }
            if let Some(twice) = (1..values.len()).find(|&i| values[..i].contains(&values[i])) {
                return Err(Error::input(format!(
                    "{at}: {} is named twice",
                    values[twice]
                )));
            }
            axes.push(Axis {
                labels: labels(values),
                values: values.clone(),
                key,
            });
        }
        let points = axes.iter().try_fold(1_usize, |product, axis| {
            product.checked_mul(axis.values.len())
        });
        match points {
            Some(..=MAX_POINTS) if !axes.is_empty() => Ok(Self { axes }),
            Some(0..=1) => Err(
                Error::input(format!("{}: [{SWEEP}] names no key", origin("")))
                    .hint("\"ppo.learning_rate\" = [1e-5, 3e-5]"),
            ),
            _ => {
                let sizes: Vec<String> = axes
                    .iter()
                    .map(|axis| axis.values.len().to_string())
                    .collect();
                Err(Error::input(format!(
                    "{}: [{SWEEP}] has {} points; at most {MAX_POINTS} are accepted",
                    origin(""),
                    sizes.join(" × ")
                ))
                .hint("sweep over fewer values, or put parts of the grid into files of their own"))
            }
        }
    }

    /// How many points the grid has.
    pub(super) fn len(&self) -> usize {
        self.axes.iter().map(|axis| axis.values.len()).product()
    }

    /// Whether the grid has this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.axes.iter().any(|axis| axis.key == key)
    }

    /// The layers of every point, named by its values; the last key's values change fastest. `known` is what
    /// `overrides::put` takes, `name` and `title` are those of the file.
    pub(super) fn points(
        &self,
        layers: &Layers,
        known: &serde_json::Value,
        name: &str,
        title: &str,
    ) -> Result<Vec<Layers>> {
        (0..self.len())
            .map(|point| self.point(point, layers, known, name, title))
            .collect()
    }

    fn point(
        &self,
        point: usize,
        layers: &Layers,
        known: &serde_json::Value,
        name: &str,
        title: &str,
    ) -> Result<Layers> {
        let mut at = layers.clone();
        let mut rest = point;
        let mut places = vec![0; self.axes.len()];
        for (place, axis) in places.iter_mut().zip(&self.axes).rev() {
            *place = rest % axis.values.len();
            rest /= axis.values.len();
        }
        let (mut full, mut words) = (name.to_owned(), Vec::new());
        for (&place, axis) in places.iter().zip(&self.axes) {
            let origin = layers
                .origin(&format!("{SWEEP}.{}", axis.key))
                .unwrap_or_default()
                .to_owned();
            let value = axis.values[place].clone();
            overrides::put(&mut at.table, known, &axis.key, value)
                .map_err(|error| error.context(format!("{origin}: {SWEEP}.{}", axis.key)))?;
            at.set_origin(&axis.key, &origin);
            let (key, label) = (self.short(&axis.key), &axis.labels[place]);
            full = format!("{full},{key}={label}");
            words.push(format!("{key} {label}"));
        }
        at.table.insert("name".into(), full.into());
        if !title.is_empty() {
            let title = format!("{title} ({})", words.join(", "));
            at.table.insert("title".into(), title.into());
        }
        Ok(at)
    }

    /// The last part of a key, where no other key ends with it; else all of it.
    fn short<'k>(&self, key: &'k str) -> &'k str {
        let last = |key: &'k str| key.rsplit('.').next().unwrap_or(key);
        let ends = |axis: &Axis| axis.key.rsplit('.').next() == Some(last(key));
        if self.axes.iter().filter(|axis| ends(axis)).count() == 1 {
            last(key)
        } else {
            key
        }
    }
}

/// Lists by their dotted keys, whether these are written as one word or as tables.
fn flatten<'t>(table: &'t Table, prefix: &str, lists: &mut Vec<(String, &'t Value)>) {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        match value {
            Value::Table(inner) => flatten(inner, &format!("{key}."), lists),
            other => lists.push((key, other)),
        }
    }
}

/// What stands for the values in names and folders: themselves where that is a name, else their numbers.
fn labels(values: &[Value]) -> Vec<String> {
    let word = |value: &Value| match value {
        // As short as it is exact: 1e-5.
        Value::Float(value) => format!("{value:?}"),
        Value::Integer(value) => value.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::String(text) => text.clone(),
        _ => String::new(),
    };
    let words: Vec<String> = values.iter().map(word).collect();
    let legal = |word: &String| {
        (1..=32).contains(&word.len())
            && word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let distinct = words.iter().collect::<BTreeSet<_>>().len() == words.len();
    if distinct && words.iter().all(legal) {
        return words;
    }
    (1..=values.len())
        .map(|number| format!("v{number}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Sweep> {
        Sweep::parse(&toml::from_str(text).unwrap(), |_| "file:1".into())
    }

    fn refused(text: &str) -> String {
        let Err(error) = parse(text) else {
            panic!("{text} is accepted")
        };
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    #[test]
    fn a_grid_has_a_point_for_every_combination_however_its_keys_are_written() {
        let quoted = parse("\"ppo.kl_coef\" = [0.05, 0.2]\n\"ppo.steps\" = [1, 2, 3]").unwrap();
        let tables = parse("ppo.kl_coef = [0.05, 0.2]\nppo.steps = [1, 2, 3]").unwrap();
        for sweep in [quoted, tables] {
            assert_eq!(sweep.len(), 6);
            assert!(sweep.has("ppo.steps") && !sweep.has("ppo"));
            let known = serde_json::json!({ "ppo": { "kl_coef": 0.1, "steps": 1 } });
            let points = sweep.points(&Layers::default(), &known, "a", "A").unwrap();
            let names: Vec<_> = points
                .iter()
                .map(|point| point.table["name"].as_str().unwrap())
                .collect();
            assert_eq!(
                names[..4],
                [
                    "a,kl_coef=0.05,steps=1",
                    "a,kl_coef=0.05,steps=2",
                    "a,kl_coef=0.05,steps=3",
                    "a,kl_coef=0.2,steps=1"
                ]
            );
            assert_eq!(points[3].table["ppo"]["kl_coef"].as_float(), Some(0.2));
            assert_eq!(
                points[3].table["title"].as_str(),
                Some("A (kl_coef 0.2, steps 1)")
            );
        }
    }

    #[test]
    fn keys_that_end_alike_are_named_whole_and_values_that_are_no_names_are_numbered() {
        let sweep = parse("a.learning_rate = [1e-5]\nb.learning_rate = [\"x/y\", \"z\"]").unwrap();
        let known = serde_json::json!({ "a": { "learning_rate": 1 }, "b": { "learning_rate": 1 } });
        let points = sweep.points(&Layers::default(), &known, "n", "").unwrap();
        assert_eq!(
            points[1].table["name"].as_str(),
            Some("n,a.learning_rate=1e-5,b.learning_rate=v2")
        );
        assert!(!points[1].table.contains_key("title"));
    }

    #[test]
    fn what_is_no_grid_is_refused_by_its_key() {
        assert!(refused("ppo.steps = 3").contains("file:1: sweep.ppo.steps: found integer"));
        assert!(refused("ppo.steps = []").contains("the list is empty"));
        assert!(refused("ppo.steps = [3, 4, 3]").contains("3 is named twice"));
        assert!(refused("seed = [1, 2]").contains("sweep.seed: cannot be swept over"));
        assert!(refused("").contains("names no key"));
        let nine = "[1, 2, 3, 4, 5, 6, 7, 8, 9]";
        let many = refused(&format!("a = {nine}\nb = {nine}"));
        assert!(many.contains("9 × 9 points; at most 64"), "{many}");
    }
}
