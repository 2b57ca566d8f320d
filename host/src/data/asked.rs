//! What was asked of servers for the rows of one stage, in all: answers, tokens, money, and who answered.

use std::collections::BTreeMap;
use std::fmt;

use finegrain_model_server::Usd;
use finegrain_sdk::kinds::Origin;
use serde::{Deserialize, Serialize};

/// What one plugin of a stage was answered. It says the same of answers that were kept as of new ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// Who asked, as `kind/name`.
    pub plugin: String,
    /// Rows (edits or verdicts) that a server was asked about.
    pub rows: usize,
    /// Answers: one a row, and one more for each that could not be used and was asked about again.
    pub requests: u64,
    /// Tokens that were read, over the rows whose tokens the server has counted.
    pub input_tokens: u64,
    /// Tokens that were written, over the same rows.
    pub output_tokens: u64,
    /// Rows whose tokens the server has not counted.
    pub uncounted: usize,
    /// What the answers cost, in dollars, over the rows whose price is known; those of earlier runs are in it.
    pub usd: f64,
    /// Rows whose price is not known.
    pub unpriced: usize,
    /// Rows by the model that answered, in the server's words.
    pub models: BTreeMap<String, usize>,
}

impl Asked {
    /// What a plugin was answered; `None` where nobody was asked.
    pub fn of<'a>(
        plugin: impl Into<String>,
        origins: impl IntoIterator<Item = &'a Origin>,
    ) -> Option<Self> {
        let mut asked = Self {
            plugin: plugin.into(),
            ..Self::default()
        };
        let mut cost = Usd::ZERO;
        for origin in origins {
            asked.rows += 1;
            asked.requests += u64::from(origin.tries);
            match (origin.input_tokens, origin.output_tokens) {
                (Some(input), Some(output)) => {
                    asked.input_tokens += input;
                    asked.output_tokens += output;
                }
                _ => asked.uncounted += 1,
            }
            match origin.picodollars {
                Some(picodollars) => cost = cost.plus(Usd::from_pico(picodollars)),
                None => asked.unpriced += 1,
            }
            *asked.models.entry(origin.model.clone()).or_default() += 1;
        }
        asked.usd = cost.dollars();
        (asked.rows > 0).then_some(asked)
    }

    /// What it cost in words, with the rows that are not in it.
    pub fn cost(&self) -> String {
        match self.unpriced {
            0 => Usd::from_dollars(self.usd).to_string(),
            all if all == self.rows => "unknown".to_owned(),
            some => format!(
                "{} and {} without a known price",
                Usd::from_dollars(self.usd),
                count(some as u64, "row")
            ),
        }
    }

    /// A sentence where one alias was answered by several models: what they differ in is in the rows.
    pub fn warning(&self) -> Option<String> {
        (self.models.len() > 1).then(|| {
            let models = self.models.iter();
            let models: Vec<String> = models.map(|(model, n)| format!("{n} {model:?}")).collect();
            format!(
                "{} was answered by {} models under one name: rows by model are {}.",
                self.plugin,
                self.models.len(),
                models.join(", ")
            )
        })
    }
}

/// One line.
impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} to {}, {} tokens in, {} out",
            self.plugin,
            count(self.requests, "answer"),
            count(self.rows as u64, "row"),
            self.input_tokens,
            self.output_tokens
        )?;
        if self.uncounted > 0 {
            write!(f, " ({} uncounted)", count(self.uncounted as u64, "row"))?;
        }
        let models: Vec<&str> = self.models.keys().map(String::as_str).collect();
        let what = if self.unpriced == self.rows {
            "price "
        } else {
            ""
        };
        write!(f, ", {what}{}; by {}", self.cost(), models.join(", "))
    }
}

/// A number and what it counts.
fn count(n: u64, noun: &str) -> String {
    match n {
        1 => format!("1 {noun}"),
        n => format!("{n} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(model: &str, tokens: Option<u64>, picodollars: Option<u64>, tries: u32) -> Origin {
        Origin {
            model: model.into(),
            input_tokens: tokens,
            output_tokens: tokens.map(|tokens| 2 * tokens),
            picodollars,
            tries,
            ..Origin::default()
        }
    }

    #[test]
    fn answers_tokens_and_money_are_summed_and_what_is_not_known_is_counted() {
        assert_eq!(Asked::of("editor/x", []), None);
        let origins = [
            origin("m-1", Some(100), Some(1_250_000_000), 1),
            origin("m-1", Some(50), Some(250_000_000), 2),
        ];
        let asked = Asked::of("editor/x", &origins).unwrap();
        assert_eq!(
            asked.to_string(),
            "editor/x: 3 answers to 2 rows, 150 tokens in, 300 out, $0.001500; by m-1"
        );
        assert_eq!(asked.warning(), None);
        let origins = [
            origin("m-1", Some(100), Some(1_250_000_000), 1),
            origin("m-2", None, None, 1),
        ];
        let asked = Asked::of("judge/y", &origins).unwrap();
        assert_eq!(
            asked.to_string(),
            "judge/y: 2 answers to 2 rows, 100 tokens in, 200 out (1 row uncounted), $0.001250 and 1 row without a known \
             price; by m-1, m-2"
        );
        assert_eq!(
            asked.warning().unwrap(),
            "judge/y was answered by 2 models under one name: rows by model are 1 \"m-1\", 1 \"m-2\"."
        );
        let unpriced = Asked::of("editor/x", [&origin("m", Some(1), None, 1)]).unwrap();
        assert_eq!(unpriced.cost(), "unknown");
    }
}
