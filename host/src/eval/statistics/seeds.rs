//! Values measured on named units (prompts, pairs, responses) under one or several seeds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bootstrap::{Bootstrap, Design};
use super::intervals::{Estimate, mean, standard_error};
use crate::error::{Error, Result};

/// Whether seeds were measured on the same units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// Units with the same id are the same unit under every seed: the evaluation prompts.
    Shared,
    /// Every seed has units of its own: pairs sampled from that seed's own model.
    PerSeed,
}

/// Values per seed and unit; `None` where a seed has no value for a unit (a judge failed).
#[derive(Clone, Debug, PartialEq)]
pub struct SeedValues<T = f64> {
    /// One row per seed; under [`Sharing::Shared`] all rows have the same columns.
    rows: Vec<Vec<Option<T>>>,
    sharing: Sharing,
}

impl<T: Copy> SeedValues<T> {
    /// One list of (id, value) per seed.
    ///
    /// # Errors
    /// An id that a seed has twice.
    pub fn new<'a, L>(seeds: impl IntoIterator<Item = L>, sharing: Sharing) -> Result<Self>
    where
        L: IntoIterator<Item = (&'a str, Option<T>)>,
    {
        // Columns in the order of first appearance: the same for the same input, whatever the ids are.
        let mut columns: BTreeMap<&str, usize> = BTreeMap::new();
        let mut rows: Vec<Vec<Option<T>>> = Vec::new();
        for list in seeds {
            if sharing == Sharing::PerSeed {
                columns.clear();
            }
            let mut row = vec![None; columns.len()];
            let mut filled = vec![false; columns.len()];
            for (id, value) in list {
                let next = columns.len();
                let column = *columns.entry(id).or_insert(next);
                if column == row.len() {
                    row.push(None);
                    filled.push(false);
                }
                if std::mem::replace(&mut filled[column], true) {
                    return Err(Error::internal(format!(
                        "the id `{id}` occurs twice in one seed"
                    )));
                }
                row[column] = value;
            }
            rows.push(row);
        }
        if sharing == Sharing::Shared {
            for row in &mut rows {
                row.resize(columns.len(), None);
            }
        }
        Ok(Self { rows, sharing })
    }

    /// How the units are crossed with the seeds, as the bootstrap wants to know it.
    pub fn design(&self) -> Design {
        match self.sharing {
            Sharing::Shared => Design::Crossed {
                seeds: self.rows.len(),
                units: self.rows.first().map_or(0, Vec::len),
            },
            Sharing::PerSeed => Design::Nested(self.rows.iter().map(Vec::len).collect()),
        }
    }

    /// Units with at least one value: shared ones count once, others once per seed.
    pub fn units(&self) -> usize {
        match self.sharing {
            Sharing::Shared => {
                let columns = self.rows.first().map_or(0, Vec::len);
                (0..columns)
                    .filter(|&unit| self.rows.iter().any(|row| row[unit].is_some()))
                    .count()
            }
            Sharing::PerSeed => self.rows.iter().flatten().flatten().count(),
        }
    }

    /// The values of a seed by unit. Panics where there is no such seed.
    pub fn row(&self, seed: usize) -> &[Option<T>] {
        &self.rows[seed]
    }

    /// The values of all seeds, one after the other.
    pub fn values(&self) -> impl Iterator<Item = T> {
        self.rows.iter().flatten().copied().flatten()
    }
}

impl SeedValues {
    /// The mean over seeds of each seed's mean; `None` of no values.
    ///
    /// One seed: s / √n (ddof 1) and the percentile interval over units. Several: standard error and interval of the
    /// hierarchical bootstrap, see [`Design`].
    pub fn estimate(&self, bootstrap: &Bootstrap) -> Option<Estimate> {
        let present: Vec<Vec<f64>> = self
            .rows
            .iter()
            .map(|row| row.iter().copied().flatten().collect())
            .collect();
        if let [only] = present.as_slice() {
            return bootstrap.mean(only);
        }
        let means: Vec<f64> = present.iter().filter_map(|row| mean(row)).collect();
        let spread = bootstrap.hierarchical(&self.design(), |seed, drawn| {
            let row = &self.rows[seed];
            let (sum, n) = drawn
                .iter()
                .filter_map(|&unit| row[unit])
                .fold((0.0, 0_usize), |(sum, n), v| (sum + v, n + 1));
            (n > 0).then(|| sum / n as f64)
        });
        Some(Estimate {
            value: mean(&means)?,
            se: spread.map(|s| s.se),
            interval: spread.map(|s| s.interval),
            n: self.units(),
        })
    }

    /// The two-sided p-value of the mean over seeds against 0, by the bootstrap of [`SeedValues::estimate`], so that it
    /// agrees with that interval; `None` where there is no interval.
    pub fn p_zero(&self, bootstrap: &Bootstrap) -> Option<f64> {
        // One seed resamples the units that have a value, as its estimate does.
        let single: Vec<Option<f64>> = match self.rows.as_slice() {
            [only] => only.iter().flatten().map(|&v| Some(v)).collect(),
            _ => Vec::new(),
        };
        let (design, rows) = match self.rows.as_slice() {
            [_] => (Design::Nested(vec![single.len()]), vec![single.as_slice()]),
            rows => (self.design(), rows.iter().map(Vec::as_slice).collect()),
        };
        let statistic = |seed: usize, drawn: &[usize]| {
            let present: Vec<f64> = drawn.iter().filter_map(|&unit| rows[seed][unit]).collect();
            mean(&present)
        };
        bootstrap
            .hierarchical(&design, statistic)
            .map(|spread| spread.p_zero)
    }

    /// The mean of every seed that has values.
    pub fn seed_means(&self) -> Vec<f64> {
        self.rows
            .iter()
            .filter_map(|row| mean(&row.iter().copied().flatten().collect::<Vec<_>>()))
            .collect()
    }

    /// The standard error of the mean over seeds alone (ddof 1 between seeds); `None` below two seeds with values.
    pub fn between_seeds(&self) -> Option<f64> {
        standard_error(&self.seed_means())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use finegrain_sdk::rng::Stream;

    fn bootstrap() -> Bootstrap {
        Bootstrap::new(Stream::new(3)).with_resamples(1000)
    }

    #[test]
    fn joins_by_id_whatever_the_order() {
        let first = [("a", Some(1.0)), ("b", None), ("c", Some(0.0))];
        let second = [("c", Some(0.5)), ("d", Some(1.0)), ("a", Some(0.0))];
        let values = SeedValues::new([first, second], Sharing::Shared).unwrap();
        assert_eq!(values.rows[0], [Some(1.0), None, Some(0.0), None]);
        assert_eq!(values.rows[1], [Some(0.0), None, Some(0.5), Some(1.0)]);
        assert_eq!(values.design(), Design::Crossed { seeds: 2, units: 4 });
        assert_eq!(values.units(), 3);
        assert_eq!(values.estimate(&bootstrap()).unwrap().value, 0.5);
        assert_eq!(values.between_seeds(), Some(0.0));
    }

    #[test]
    fn units_of_their_own_stay_apart() {
        let values = SeedValues::new(
            [
                vec![("a", Some(1.0))],
                vec![("a", Some(0.0)), ("b", Some(0.0))],
            ],
            Sharing::PerSeed,
        );
        let values = values.unwrap();
        assert_eq!(values.design(), Design::Nested(vec![1, 2]));
        assert_eq!(values.units(), 3);
        let estimate = values.estimate(&bootstrap()).unwrap();
        assert_eq!((estimate.value, estimate.n), (0.5, 3));
    }

    #[test]
    fn twice_the_same_id_is_an_error() {
        let twice = SeedValues::new([[("a", None), ("a", Some(1.0))]], Sharing::Shared);
        assert!(twice.unwrap_err().to_string().contains("`a` occurs twice"));
    }

    #[test]
    fn nothing_gives_nothing() {
        let none =
            SeedValues::new(Vec::<Vec<(&str, Option<f64>)>>::new(), Sharing::Shared).unwrap();
        assert_eq!((none.estimate(&bootstrap()), none.units()), (None, 0));
        let empty = SeedValues::new([vec![], vec![]], Sharing::PerSeed).unwrap();
        assert_eq!(empty.estimate(&bootstrap()), None);
        let failed = SeedValues::new([[("a", None)], [("a", None)]], Sharing::Shared).unwrap();
        assert_eq!(failed.estimate(&bootstrap()), None);
    }
}
