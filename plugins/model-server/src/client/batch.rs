//! Questions in Anthropic's Message Batches: half the price, and answers within a day.
//!
//! An intent is on the disk before a batch is posted and the server's id behind it, so that whoever finds one without the
//! other looks for the batch at the server instead of posting it again. Results are kept as single answers are, under the same
//! keys; rows then end as they do in what is kept. A batch outlives the call: an interrupt leaves it at work, and any later
//! call that needs one of its questions waits for it, whether or not its options ask for batches.

mod cancel;
mod errored;
mod live;
mod pack;
mod post;
mod questions;
mod remote;
mod results;
mod search;
mod wait;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use finegrain_sdk::context::LogLevel;
use finegrain_sdk::{Error, Result};

use super::asker::{Asker, over_budget};
use super::form::{Accounted, Form};
use super::known::{self, Open};
use super::row::{Next, Row, guarded};
use super::{Call, Sink, interrupted, workers};
use crate::answers::Layer;
use crate::outcome::{End, Failure, FailureKind, Settled};

pub use cancel::cancel_batch;
use live::Live;
use questions::Questions;

/// Fewer questions than these go singly, at the full price: a day is too long for a handful.
pub(super) const LEAST: usize = 20;
/// How often a question is in a batch that ends without an answer to it.
const MOST_AGAIN: u32 = 3;

/// The batches of a call.
struct Batches<'a> {
    call: &'a Call<'a>,
    asker: &'a Asker<'a>,
    layer: &'a Layer,
    /// Where batches are.
    url: String,
    /// Batches, by their intents, whose results this call has read.
    read: HashSet<String>,
    /// Batches of the server that an intent without an id turned out not to be.
    not_ours: HashSet<String>,
    /// Questions that have no answer in this call.
    failed: HashMap<String, Failure>,
    /// How often questions were in batches that ended without an answer to them.
    tries: HashMap<String, u32>,
    /// How often a batch was posted of which nothing arrived.
    lost: u32,
    /// What ends the call once everything that is there was pushed.
    ending: Option<Error>,
}

/// Whether questions of this call may be in batches.
pub(super) fn concerns(call: &Call<'_>) -> bool {
    let is_open = |layer: &Layer| !layer.open_batches(call.server.address.as_str()).is_empty();
    let server = call.server;
    let has_batches = server.api.batches_url(&server.address).is_some();
    has_batches && (server.batch || call.layer.as_ref().is_some_and(is_open))
}

/// Asks about all pending rows.
///
/// # Errors
/// What ended the call before its rows.
pub(super) fn run<'a>(
    call: &'a Call<'a>,
    asker: &'a Asker<'a>,
    mut rows: Vec<Open>,
    accounted: &Accounted,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let url = call.server.api.batches_url(&call.server.address);
    let (Some(layer), Some(url)) = (&call.layer, url) else {
        return Err(Error::options(
            "batch = true needs a folder for answers: a batch that is written down nowhere would be paid twice; leave batch away",
        ));
    };
    let mut batches = Batches {
        call,
        asker,
        layer,
        url,
        read: HashSet::new(),
        not_ours: HashSet::new(),
        failed: HashMap::new(),
        tries: HashMap::new(),
        lost: 0,
        ending: None,
    };
    while !rows.is_empty() {
        interrupted(call)?;
        rows = batches.round(rows, sink)?;
        rows = batches.walk(rows, accounted, sink)?;
        if let Some(error) = batches.ending.take()
            && !rows.is_empty()
        {
            return Err(error);
        }
    }
    Ok(())
}

impl<'a> Batches<'a> {
    /// Asks what can be asked now, singly or in batches, and waits for it. Returns the rows that were not asked singly.
    fn round(&mut self, rows: Vec<Open>, sink: &mut Sink<'_>) -> Result<Vec<Open>> {
        self.layer.look_again()?;
        let questions = Questions::of(self.call, &rows)?;
        let open = self.layer.open_batches(self.call.server.address.as_str());
        let open: Vec<_> = open
            .into_iter()
            .filter(|batch| !self.read.contains(&batch.intent))
            .filter(|batch| batch.keys.iter().any(|key| questions.has(key)))
            .collect();
        let waiting: HashSet<&str> = open
            .iter()
            .flat_map(|batch| batch.keys.iter().map(String::as_str))
            .collect();
        let free: Vec<usize> = questions
            .positions()
            .filter(|(key, _)| !waiting.contains(key))
            .map(|(_, at)| at)
            .collect();
        let single = self.singles(&rows, &free)?;
        // What open batches cost is spent: with a budget, nothing else is sent before it is known.
        let first_the_open = !open.is_empty() && self.call.server.budget().is_some();
        if !single.is_empty() && !first_the_open {
            let single: HashSet<usize> = single.into_iter().collect();
            let (mut now, mut rest) = (Vec::with_capacity(single.len()), Vec::new());
            for (at, open) in rows.into_iter().enumerate() {
                if single.contains(&at) {
                    now.push(open);
                } else {
                    rest.push(open);
                }
            }
            workers::run(self.call, self.asker, now, sink)?;
            return Ok(rest);
        }
        let mut live: Vec<Live<'a>> = Vec::new();
        for batch in open {
            live.push(self.resume(batch, &rows, &questions)?);
        }
        if single.is_empty() {
            live.extend(self.post(&rows, &free)?);
        }
        self.wait(live, &rows, &questions)?;
        Ok(rows)
    }

    /// Which of the free rows go singly now: all where batches are not asked for or would be too small; else the
    /// first of every shape of body that no answer has shown to be accepted, for a batch finds out at its end.
    fn singles(&self, rows: &[Open], free: &[usize]) -> Result<Vec<usize>> {
        if !self.call.server.batch || free.len() < LEAST {
            return Ok(free.to_vec());
        }
        let mut met = HashSet::new();
        let mut singles = Vec::new();
        for &at in free {
            let (_, form) = self.form(&rows[at])?;
            let shape = form.shape();
            if !self.call.is_proven(&shape) && met.insert(shape) {
                singles.push(at);
            }
        }
        Ok(singles)
    }

    /// A row with its open question as it is sent.
    fn form(&self, open: &Open) -> Result<(Row, Form)> {
        let row = match open {
            Open::Fresh(row) => Row::begin(self.call, *row)?,
            Open::Later(row) => Row::clone(row),
        };
        let form = Form::new(self.call, &row.question, 0).map_err(|it| it.at_row(row.number))?;
        Ok((row, form))
    }

    /// Pushes the rows that end in what is kept by now, and those that have failed; returns the others.
    fn walk(
        &mut self,
        rows: Vec<Open>,
        accounted: &Accounted,
        sink: &mut Sink<'_>,
    ) -> Result<Vec<Open>> {
        let mut left = Vec::new();
        for open in rows {
            let number = open.number();
            let walked = guarded(|| -> Result<Next> {
                let row = match open {
                    Open::Fresh(row) => Row::begin(self.call, row)?,
                    Open::Later(row) => *row,
                };
                match known::go_on(self.call, accounted, row)? {
                    Next::Open(row) => {
                        let form = Form::new(self.call, &row.question, 0)?;
                        Ok(match self.failed.get(&form.key) {
                            Some(failure) => row.fail(failure.clone()),
                            None => Next::Open(row),
                        })
                    }
                    end @ Next::End(_) => Ok(end),
                }
            });
            match walked {
                Ok(Ok(Next::Open(row))) if row.is_fresh() => left.push(Open::Fresh(number)),
                Ok(Ok(Next::Open(row))) => left.push(Open::Later(Box::new(row))),
                Ok(Ok(Next::End(settled))) => sink.settle(number, settled)?,
                Ok(Err(error)) => return Err(error.at_row(number)),
                Err(failure) => sink.settle(
                    number,
                    Settled {
                        end: End::Failed(failure),
                        tries: Vec::new(),
                    },
                )?,
            }
        }
        Ok(left)
    }

    /// A question has come back without an answer: it is asked again, or has failed.
    fn again(&mut self, key: &str, seen: String) {
        self.call.tally.again();
        let tries = self.tries.entry(key.to_owned()).or_default();
        *tries += 1;
        if *tries >= MOST_AGAIN {
            let failure = Failure::new(FailureKind::Unavailable, seen);
            self.failed.insert(key.to_owned(), failure);
        }
    }

    /// Notes that nothing more is expected of a batch.
    fn ended(&mut self, intent: &str, why: &str) -> Result<()> {
        self.read.insert(intent.to_owned());
        self.layer.batch_ended(intent, why)
    }

    fn say(&self, level: LogLevel, text: &str) {
        self.call.context.log(level, text);
    }

    /// Sleeps, unless the user interrupts the call; says whether to go on.
    fn sleep(&self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if !self.call.goes_on() {
                return false;
            }
            thread::sleep(left.min(Duration::from_millis(100)));
        }
        self.call.goes_on()
    }

    /// Does what waits for the server; `patience` after an interrupt the connections are ended.
    fn interruptible<T>(&mut self, patience: Duration, work: impl FnOnce(&mut Self) -> T) -> T {
        let done = AtomicBool::new(false);
        let (call, asker) = (self.call, self.asker);
        thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut until = None;
                while !done.load(Ordering::Relaxed) {
                    if call.context.cancelled()
                        && Instant::now() >= *until.get_or_insert_with(|| Instant::now() + patience)
                    {
                        asker.shutdown();
                        return;
                    }
                    thread::park_timeout(Duration::from_millis(100));
                }
            });
            let outcome = work(self);
            done.store(true, Ordering::Relaxed);
            watcher.thread().unpark();
            outcome
        })
    }
}
