//! What tokens cost: a dated table, and the user's own before it.

use std::fs;

use finegrain_sdk::serde::Deserialize;
use finegrain_sdk::{Error, Result};

use crate::outcome::Usage;
use crate::usd::Usd;

/// The table that comes with the program.
const BUILT_IN: &str = include_str!("prices.toml");

/// Prices of one file.
#[derive(Clone, Debug, Deserialize)]
#[serde(crate = "finegrain_sdk::serde", deny_unknown_fields)]
struct File {
    /// The entries.
    #[serde(default)]
    price: Vec<Price>,
}

/// What the tokens of some models cost from a date on, in US dollars per million.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(crate = "finegrain_sdk::serde", deny_unknown_fields)]
pub struct Price {
    /// Names, with `*` for any characters and `?` for one.
    models: Vec<String>,
    /// The first day, `2026-10-07`.
    from: String,
    /// Of tokens that are read.
    input: f64,
    /// Of tokens that are written.
    output: f64,
    /// Of tokens that are read from the server's cache; `input` where absent.
    cache_read: Option<f64>,
    /// Of tokens that are written into the server's cache; `input` where absent.
    cache_write: Option<f64>,
    /// The factor of a batch.
    #[serde(default = "one")]
    batch: f64,
    /// The price of long prompts.
    over: Option<Over>,
}

/// What whole requests cost whose prompt has more than some tokens.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(crate = "finegrain_sdk::serde", deny_unknown_fields)]
struct Over {
    /// More than these.
    tokens: u64,
    /// As [`Price::input`].
    input: f64,
    /// As [`Price::output`].
    output: f64,
    /// As [`Price::cache_read`].
    cache_read: Option<f64>,
    /// As [`Price::cache_write`].
    cache_write: Option<f64>,
}

fn one() -> f64 {
    1.0
}

/// Picodollars per token, rounded to the nearest.
struct Rates {
    input: u64,
    output: u64,
    cache_read: u64,
    cache_write: u64,
}

impl Price {
    /// What `usage` costs, in a batch or alone.
    pub fn of(&self, usage: Usage, batch: bool) -> Usd {
        let rates = self.rates(usage.input, batch);
        let plain = usage
            .input
            .saturating_sub(usage.cache_read)
            .saturating_sub(usage.cache_write);
        [
            (plain, rates.input),
            (usage.cache_read, rates.cache_read),
            (usage.cache_write, rates.cache_write),
            (usage.output, rates.output),
        ]
        .into_iter()
        .fold(Usd::ZERO, |sum, (tokens, rate)| {
            sum.plus(Usd::from_pico(tokens.saturating_mul(rate)))
        })
    }

    /// The most that a request can cost, in a batch or alone, that reads at most `input` tokens and writes at most `output`:
    /// the dearest way to read, and the price of long prompts where the prompt may be one.
    pub fn at_most(&self, input: u64, output: u64, batch: bool) -> Usd {
        let most = |rates: Rates| {
            let read = rates.input.max(rates.cache_read).max(rates.cache_write);
            Usd::from_pico(input.saturating_mul(read))
                .plus(Usd::from_pico(output.saturating_mul(rates.output)))
        };
        most(self.rates(0, batch)).max(most(self.rates(input, batch)))
    }

    fn rates(&self, prompt: u64, batch: bool) -> Rates {
        let (input, output, cache_read, cache_write) = match &self.over {
            Some(over) if prompt > over.tokens => {
                (over.input, over.output, over.cache_read, over.cache_write)
            }
            _ => (self.input, self.output, self.cache_read, self.cache_write),
        };
        let factor = if batch { self.batch } else { 1.0 };
        // A dollar per million tokens is a million picodollars a token.
        let rate = |dollars: f64| (dollars * factor * 1e6).round() as u64;
        Rates {
            input: rate(input),
            output: rate(output),
            cache_read: rate(cache_read.unwrap_or(input)),
            cache_write: rate(cache_write.unwrap_or(input)),
        }
    }
}

/// All prices: the user's first.
#[derive(Clone, Debug)]
pub struct Prices {
    tables: Vec<Vec<Price>>,
}

impl Prices {
    /// The built-in table, with the user's file before it.
    ///
    /// # Errors
    /// A file that cannot be read, that is no such table, or that has a price below 0.
    pub fn load(path: Option<&str>) -> Result<Self> {
        let mut tables = Vec::new();
        if let Some(path) = path {
            let text = fs::read_to_string(path)
                .map_err(|error| Error::options(format!("prices: {path}: {error}")))?;
            tables.push(parse(&text, path)?);
        }
        tables.push(parse(BUILT_IN, "the built-in prices")?);
        Ok(Self { tables })
    }

    /// The price of a model on a day, which may be followed by a time: of the user's file before the built-in one, then of
    /// the name with the fewest wildcards, then the latest.
    pub fn of(&self, model: &str, day: &str) -> Option<&Price> {
        let day = day.get(..10)?;
        self.tables.iter().find_map(|table| {
            table
                .iter()
                .filter(|price| &*price.from <= day)
                .filter_map(|price| {
                    let literal = price
                        .models
                        .iter()
                        .filter(|name| matches(name, model))
                        .map(|name| name.chars().filter(|c| !"*?".contains(*c)).count())
                        .max()?;
                    Some(((literal, &*price.from), price))
                })
                .max_by_key(|(rank, _)| *rank)
                .map(|(_, price)| price)
        })
    }
}

/// A table from its text; `name` is for messages.
fn parse(text: &str, name: &str) -> Result<Vec<Price>> {
    let refuse = |what: String| Error::options(format!("{name}: {what}"));
    let file: File = toml::from_str(text).map_err(|error| refuse(error.to_string()))?;
    for price in &file.price {
        let names = price.models.join(", ");
        if price.from.parse::<jiff::civil::Date>().is_err() || price.from.len() != 10 {
            return Err(refuse(format!(
                "{names}: from = {:?} is no day; accepted is YYYY-MM-DD",
                price.from
            )));
        }
        let over = price.over.as_ref();
        let all = [
            Some(price.input),
            Some(price.output),
            price.cache_read,
            price.cache_write,
            Some(price.batch),
            over.map(|over| over.input),
            over.map(|over| over.output),
            over.and_then(|over| over.cache_read),
            over.and_then(|over| over.cache_write),
        ];
        if let Some(wrong) = all
            .into_iter()
            .flatten()
            .find(|amount| !(0.0..=1e6).contains(amount))
        {
            return Err(refuse(format!(
                "{names}: {wrong} is no price; accepted are dollars per million tokens from 0 to 1000000"
            )));
        }
    }
    Ok(file.price)
}

/// Whether a name with wildcards is that of a model.
fn matches(pattern: &str, name: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => name.is_empty(),
        Some('*') => {
            let rest = rest.as_str();
            name.char_indices()
                .map(|(at, _)| at)
                .chain([name.len()])
                .any(|at| matches(rest, &name[at..]))
        }
        Some(expected) => {
            let mut name = name.chars();
            name.next()
                .is_some_and(|c| expected == '?' || expected == c)
                && matches(rest.as_str(), name.as_str())
        }
    }
}

#[cfg(test)]
mod tests;
