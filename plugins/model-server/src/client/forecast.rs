//! What a call would send and what it would cost, told without sending anything and without a key.

use std::collections::HashSet;
use std::path::Path;

use finegrain_sdk::forecast::{Bounds, Forecast};
use finegrain_sdk::{CallContext, Result};

use super::batch::LEAST;
use super::form::{Accounted, Form, find_kept};
use super::row::{Next, Row, guarded};
use super::{Call, Caller, interrupted};
use crate::answers::Layer;
use crate::estimate;
use crate::outcome::{Answer, Step, Usage};
use crate::prices::Price;
use crate::question::Question;
use crate::server::Server;
use crate::usd::Usd;

/// Tokens of a short answer where no kept one tells: "no change", or a verdict in a few words.
const LITTLE: u64 = 20;
/// Tokens of a user's turn that asks again.
const ASKED_AGAIN: u64 = 100;

/// What [`crate::ask`] with the same arguments would send, where `tries` is the most answers with a text that `next` asks
/// for about one row. The least is one question a row that is not answered yet, with an answer as long as the kept ones or,
/// where there are none, a few words; the most is every try with the longest answer. Tokens are the length of the texts by
/// [`estimate::likely`], scaled by what the server counted of kept answers to this call's questions. Answers that are cut off
/// or empty, which are asked for once more, and requests that are lost on the way are not foreseen.
///
/// # Errors
/// A question that no API takes, a folder that cannot be read, or an interrupt.
pub fn forecast(
    server: &Server,
    rows: usize,
    first: impl Fn(usize) -> Result<Question> + Sync,
    next: impl Fn(usize, &[Answer]) -> Step + Sync,
    tries: u32,
    context: &CallContext<'_>,
    answers: Option<&Path>,
) -> Result<Forecast> {
    let caller = Caller {
        first: &first,
        next: &next,
    };
    // Nothing is reserved: how far the budget reaches is what the caller wants to know.
    let call = Call::new(
        server,
        caller,
        context,
        answers.map(Layer::open).transpose()?,
    );
    let accounted = Accounted::default();
    let mut met = HashSet::new();
    let (mut kept, mut open, mut measured) = (0, Vec::new(), Measured::default());
    for row in 0..rows {
        interrupted(&call)?;
        // A row whose question panics fails in the call, and costs nothing there either.
        let Ok(left) = guarded(|| walk(&call, &accounted, row, &mut measured)) else {
            continue;
        };
        let (answered, left) = left.map_err(|error| error.at_row(row))?;
        kept += answered.count;
        let Some(question) = left else { continue };
        let form = Form::new(&call, &question, 0)?;
        if !server.options.replay && met.insert(form.key) {
            open.push(Open {
                input: estimate::likely(&form.body.text),
                max_tokens: form.body.max_tokens.into(),
                tries: u64::from(tries).saturating_sub(answered.texts).max(1),
            });
        }
    }
    let price = server.price_today();
    let mut forecast = Forecast {
        model: server.model().to_owned(),
        kept,
        spent_usd: price.map(|_| call.budget.spent().dollars()),
        budget_usd: server.options.budget_usd,
        measured_on: measured.count,
        ..Forecast::default()
    };
    let batch = server.batch && open.len() >= LEAST;
    let mut usd = price.map(|_| Bounds::default());
    for row in &open {
        let (low, high) = (row.least(&measured), row.most(&measured));
        forecast.requests = forecast.requests.plus(Bounds {
            from: 1,
            to: row.tries,
        });
        forecast.input_tokens = forecast
            .input_tokens
            .plus(tokens(&low, &high, |usage| usage.input));
        forecast.output_tokens = forecast
            .output_tokens
            .plus(tokens(&low, &high, |usage| usage.output));
        if let (Some(sum), Some(price)) = (&mut usd, price) {
            sum.from = Usd::plus(sum.from, cost(price, &low, batch));
            sum.to = Usd::plus(sum.to, cost(price, &high, batch));
        }
    }
    forecast.usd = usd.map(|usd: Bounds<Usd>| Bounds {
        from: usd.from.dollars(),
        to: usd.to.dollars(),
    });
    Ok(forecast)
}

/// The answers of a row that are there.
#[derive(Default)]
struct Answered {
    /// All of them.
    count: u64,
    /// Those with a text.
    texts: u64,
}

/// A row as far as its answers are kept, and the question that is open then.
fn walk(
    call: &Call<'_>,
    accounted: &Accounted,
    row: usize,
    measured: &mut Measured,
) -> Result<(Answered, Option<Question>)> {
    let mut answered = Answered::default();
    let mut state = Row::begin(call, row)?;
    while let Some(answer) = find_kept(call, accounted, &state.question)? {
        answered.count += 1;
        answered.texts += u64::from(answer.text().is_some());
        if let Some(usage) = answer.usage {
            measured.add(&Form::new(call, &state.question, 0)?.body.text, usage);
        }
        match state.take(call, answer) {
            Next::Open(next) => state = next,
            Next::End(_) => return Ok((answered, None)),
        }
    }
    Ok((answered, Some(state.question)))
}

/// What kept answers have taken.
#[derive(Default)]
struct Measured {
    count: u64,
    likely: u64,
    usage: Usage,
}

impl Measured {
    fn add(&mut self, text: &str, usage: Usage) {
        self.count += 1;
        self.likely += estimate::likely(text);
        self.usage = self.usage.plus(usage);
    }

    /// An estimate of tokens that are read, as the server counts them.
    fn scale(&self, likely: u64) -> u64 {
        if self.likely == 0 || self.usage.input == 0 {
            return likely;
        }
        (likely as f64 * self.usage.input as f64 / self.likely as f64).round() as u64
    }

    /// Tokens of an answer of the usual length.
    fn usual(&self) -> u64 {
        if self.count == 0 {
            return LITTLE;
        }
        self.usage.output.div_ceil(self.count)
    }
}

/// A row that would be asked about.
struct Open {
    /// Estimated tokens of the open question.
    input: u64,
    /// The limit of its answer.
    max_tokens: u64,
    /// The most tries that are left.
    tries: u64,
}

impl Open {
    /// One question and an answer of the usual length.
    fn least(&self, measured: &Measured) -> Vec<Usage> {
        vec![Usage {
            input: measured.scale(self.input),
            output: measured.usual().min(self.max_tokens),
            ..Usage::default()
        }]
    }

    /// All tries with the longest answers; each reads what was said before.
    fn most(&self, measured: &Measured) -> Vec<Usage> {
        let before = self.max_tokens + ASKED_AGAIN;
        let usage = |before_it| Usage {
            input: measured.scale(self.input) + before_it * before,
            output: self.max_tokens,
            ..Usage::default()
        };
        (0..self.tries).map(usage).collect()
    }
}

fn tokens(low: &[Usage], high: &[Usage], of: impl Fn(&Usage) -> u64) -> Bounds<u64> {
    Bounds {
        from: low.iter().map(&of).sum(),
        to: high.iter().map(&of).sum(),
    }
}

/// What the requests about a row cost. Where questions go in batches, the first does: further tries may be too few for one.
fn cost(price: &Price, requests: &[Usage], batch: bool) -> Usd {
    let requests = requests.iter().enumerate();
    let costs = requests.map(|(at, usage)| price.of(*usage, batch && at == 0));
    costs.fold(Usd::ZERO, Usd::plus)
}
