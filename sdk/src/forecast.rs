//! What a call would ask of a server and what it would cost, told before anything is asked.

use std::ops::Add;

use serde::{Deserialize, Serialize};

/// A figure that is not known before: the least and the most that it may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds<T> {
    /// The least.
    pub from: T,
    /// The most.
    pub to: T,
}

/// What a call of an editor or a judge would ask of a server: `finegrain compare --dry-run` prints it.
///
/// `from` is one question a row with a short answer; `to` is every try that the options allow, each with the longest answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Forecast {
    /// The model's name as it is asked for.
    pub model: String,
    /// Answers that are there already and cost nothing more.
    pub kept: u64,
    /// What the kept answers and earlier requests without one have cost at most, in US dollars: a budget counts it. `None`
    /// where a price is not known.
    pub spent_usd: Option<f64>,
    /// Requests that would be sent.
    pub requests: Bounds<u64>,
    /// Tokens that the server would read.
    pub input_tokens: Bounds<u64>,
    /// Tokens that the server would write.
    pub output_tokens: Bounds<u64>,
    /// What the requests would cost, in US dollars; `None` where a price is not known.
    pub usd: Option<Bounds<f64>>,
    /// The most that all answers of the call may cost, those included that are there; `None` where no limit is set.
    pub budget_usd: Option<f64>,
    /// How many kept answers the figures were measured on; 0 where they are estimates by the length of the texts alone.
    pub measured_on: u64,
}

impl<T> Bounds<T> {
    /// From the least of one to the most of another.
    fn between(low: Self, high: Self) -> Self {
        Self {
            from: low.from,
            to: high.to,
        }
    }
}

impl<T: Add<Output = T>> Bounds<T> {
    /// Both sums.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            from: self.from + other.from,
            to: self.to + other.to,
        }
    }
}

impl Forecast {
    /// The forecast of a call whose texts are not known: `low` has the shortest that they may be, `high` the longest.
    #[must_use]
    pub fn between(low: &Self, high: &Self) -> Self {
        Self {
            kept: low.kept.min(high.kept),
            requests: Bounds::between(low.requests, high.requests),
            input_tokens: Bounds::between(low.input_tokens, high.input_tokens),
            output_tokens: Bounds::between(low.output_tokens, high.output_tokens),
            usd: low
                .usd
                .zip(high.usd)
                .map(|(low, high)| Bounds::between(low, high)),
            ..high.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forecast(tokens: u64, usd: Option<f64>) -> Forecast {
        let bounds = |from| Bounds { from, to: 2 * from };
        Forecast {
            model: "m".to_owned(),
            requests: bounds(3),
            input_tokens: bounds(tokens),
            output_tokens: bounds(tokens),
            usd: usd.map(|from| Bounds {
                from,
                to: 2.0 * from,
            }),
            ..Forecast::default()
        }
    }

    #[test]
    fn texts_that_are_not_known_go_from_the_shortest_to_the_longest() {
        let both = Forecast::between(&forecast(10, Some(1.0)), &forecast(100, Some(7.0)));
        assert_eq!(both.requests, Bounds { from: 3, to: 6 });
        assert_eq!(both.input_tokens, Bounds { from: 10, to: 200 });
        assert_eq!(
            both.usd,
            Some(Bounds {
                from: 1.0,
                to: 14.0
            })
        );
        let unknown = Forecast::between(&forecast(1, None), &forecast(2, None));
        assert_eq!(unknown.usd, None);
    }

    #[test]
    fn a_forecast_of_a_later_version_is_read_as_far_as_it_is_known() {
        let read: Forecast = serde_json::from_str(
            r#"{"model": "m", "requests": {"from": 1, "to": 2}, "carbon": 1}"#,
        )
        .unwrap();
        assert_eq!((read.requests.to, read.usd), (2, None));
    }
}
