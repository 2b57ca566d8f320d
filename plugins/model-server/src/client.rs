//! Asking: every row's questions until its end, several at once, each answer kept before it is read.

mod asker;
mod batch;
mod forecast;
mod form;
mod known;
mod preflight;
mod row;
mod stop;
mod tally;
mod workers;

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use finegrain_sdk::context::LogLevel;
use finegrain_sdk::{CallContext, Error, Result};

use crate::answers::Layer;
use crate::budget::Budget;
use crate::outcome::{Answer, Settled, Step};
use crate::question::Question;
use crate::server::Server;
use crate::summary::Summary;
use crate::usd::Usd;

use asker::Asker;
pub use batch::cancel_batch;
pub use forecast::forecast;
use known::Pending;
use stop::Stop;
use tally::Tally;

/// What the caller decides, as workers see it.
pub(crate) struct Caller<'a> {
    /// The first question about a row.
    pub(crate) first: &'a (dyn Fn(usize) -> Result<Question> + Sync),
    /// What follows an answer with a text.
    pub(crate) next: &'a (dyn Fn(usize, &[Answer]) -> Step + Sync),
}

/// What one call shares between its parts.
pub(crate) struct Call<'a> {
    pub(crate) server: &'a Server,
    pub(crate) caller: Caller<'a>,
    pub(crate) context: &'a CallContext<'a>,
    pub(crate) layer: Option<Layer>,
    pub(crate) budget: Budget,
    pub(crate) stop: Stop,
    pub(crate) tally: Tally,
    /// Shapes of bodies that the server has answered.
    proven: Mutex<HashSet<String>>,
    /// Answers of this call's batches that no row has taken yet.
    fresh: Mutex<HashSet<String>>,
}

/// Asks about `rows` rows and pushes each row's end as soon as it is there, in any order.
///
/// `first(row)` is the first question about a row; `next(row, tries)` says what follows an answer with a text, where `tries`
/// are the row's answers so far, the newest last. Both may run on several threads, and more than once for a row. `push` runs
/// on the calling thread. `answers` is the folder of kept answers; without one nothing is kept, and a warning says so.
/// The summary also goes to the log.
///
/// # Errors
/// The run was interrupted ([`finegrain_sdk::ErrorCode::CANCELLED`]), the budget does not reach, the server refuses the key
/// or the model, `push` failed, an answer could not be stored, or with `replay` an answer is not there. What is there was
/// pushed before; rows that were not asked to their end are pushed by no call.
pub fn ask(
    server: &Server,
    rows: usize,
    first: impl Fn(usize) -> Result<Question> + Sync,
    next: impl Fn(usize, &[Answer]) -> Step + Sync,
    push: &mut dyn FnMut(usize, Settled) -> Result<()>,
    context: &CallContext<'_>,
    answers: Option<&Path>,
) -> Result<Summary> {
    let caller = Caller {
        first: &first,
        next: &next,
    };
    let call = Call::new(
        server,
        caller,
        context,
        answers.map(Layer::open).transpose()?,
    );
    let mut sink = Sink {
        push,
        context,
        summary: Summary::new(rows, server.price_today().is_some()),
    };
    let ended = run(&call, rows, &mut sink);
    call.say_remarks();
    call.tally.add_to(&mut sink.summary);
    if rows > 0 {
        context.log(
            LogLevel::Info,
            &format!("{}: {}", server.model(), sink.summary),
        );
    }
    ended.map(|()| sink.summary)
}

/// All rows: those that end in what is kept, then the others.
fn run(call: &Call<'_>, rows: usize, sink: &mut Sink<'_>) -> Result<()> {
    if rows == 0 {
        return Ok(());
    }
    let pending = known::walk(call, rows, sink)?;
    call.say_remarks();
    if pending.is_empty() {
        return Ok(());
    }
    if call.server.options.replay {
        return Err(known::missing(call, &pending));
    }
    if call.layer.is_none() {
        call.context.log(
            LogLevel::Warn,
            "no folder for answers: nothing is kept, and the next call pays again",
        );
    }
    if call.server.address.is_readable() {
        call.context.log(
            LogLevel::Warn,
            &format!(
                "{} is neither encrypted nor on this machine: whoever is on the way can read the texts and the key",
                call.server.address.as_str()
            ),
        );
    }
    let Pending { rows, accounted } = pending;
    let asker = Asker::new(call, &accounted)?;
    preflight::look(call, asker.transport())?;
    if batch::concerns(call) {
        return batch::run(call, &asker, rows, &accounted, sink);
    }
    workers::run(call, &asker, rows, sink)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Call<'a> {
    /// A call that has not begun.
    fn new(
        server: &'a Server,
        caller: Caller<'a>,
        context: &'a CallContext<'a>,
        layer: Option<Layer>,
    ) -> Self {
        Self {
            server,
            caller,
            context,
            layer,
            budget: Budget::new(server.budget(), Usd::ZERO),
            stop: Stop::default(),
            tally: Tally::default(),
            proven: Mutex::default(),
            fresh: Mutex::default(),
        }
    }

    /// Notes that the server takes bodies of a shape.
    pub(crate) fn prove(&self, shape: String) {
        lock(&self.proven).insert(shape);
    }

    /// Whether the server takes bodies of a shape.
    pub(crate) fn is_proven(&self, shape: &str) -> bool {
        lock(&self.proven).contains(shape)
    }

    /// Notes an answer that came in a batch of this call.
    pub(crate) fn answered(&self, key: &str) {
        lock(&self.fresh).insert(key.to_owned());
    }

    /// Whether a kept answer came in a batch of this call; says so once, to the row that takes it.
    pub(crate) fn takes_fresh(&self, key: &str) -> bool {
        lock(&self.fresh).remove(key)
    }

    /// Whether to go on: neither interrupted nor stopped.
    pub(crate) fn goes_on(&self) -> bool {
        !self.stop.is_set() && !self.context.cancelled()
    }

    /// Tells the user what the folder's reading has skipped.
    fn say_remarks(&self) {
        let remarks = self.layer.as_ref().map(Layer::remarks).unwrap_or_default();
        for remark in remarks {
            self.context.log(LogLevel::Warn, &remark);
        }
    }
}

/// Where ends go: to the caller and into the counts.
pub(crate) struct Sink<'a> {
    push: &'a mut dyn FnMut(usize, Settled) -> Result<()>,
    context: &'a CallContext<'a>,
    summary: Summary,
}

impl Sink<'_> {
    /// Counts a row's end and pushes it.
    ///
    /// # Errors
    /// The caller's.
    pub(crate) fn settle(&mut self, row: usize, settled: Settled) -> Result<()> {
        self.summary.add_end(&settled);
        for answer in &settled.tries {
            self.summary.add_answer(answer);
        }
        (self.push)(row, settled)?;
        self.context
            .progress(self.summary.settled, self.summary.rows);
        Ok(())
    }

    /// The counts so far.
    pub(crate) fn summary(&self) -> &Summary {
        &self.summary
    }
}

/// The error of a call that was interrupted before its end.
pub(crate) fn interrupted(call: &Call<'_>) -> Result<()> {
    call.context.check_cancelled().map_err(|error| Error {
        message: "interrupted; what was answered is kept".to_owned(),
        ..error
    })
}
