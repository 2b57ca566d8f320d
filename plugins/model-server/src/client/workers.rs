//! The workers of a call, and the calling thread that pushes what they bring.

use std::collections::VecDeque;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use finegrain_sdk::context::LogLevel;
use finegrain_sdk::{Error, Result};

use super::asker::{Asker, NoAnswer};
use super::known::Open;
use super::row::{Next, Row, guarded};
use super::{Call, Sink, interrupted};
use crate::outcome::{End, Settled};

/// How often the calling thread looks at the cancel flag.
const LOOK: Duration = Duration::from_millis(100);
/// How long an interrupted call waits for answers under way: they are paid.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How often the log is told how far the call is.
const TELL: Duration = Duration::from_mins(1);
/// The stack of a worker. They are many, do little, and the caller's `next` runs on it.
const STACK: usize = 1 << 20;

/// Asks about rows, each question by itself.
///
/// # Errors
/// What ended the call before these rows.
pub(crate) fn run(
    call: &Call<'_>,
    asker: &Asker<'_>,
    rows: Vec<Open>,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let workers = rows.len().min(call.server.options.concurrency as usize);
    let queue = Mutex::new(VecDeque::from(rows));
    let (sender, receiver) = mpsc::sync_channel(workers);
    thread::scope(|scope| {
        for number in 0..workers {
            let (queue, sender) = (&queue, sender.clone());
            let started = thread::Builder::new()
                .name(format!("ask-{number}"))
                .stack_size(STACK)
                .spawn_scoped(scope, move || work(call, asker, queue, &sender));
            if let Err(error) = started {
                // Fewer workers do the work too; none cannot.
                let what = format!("cannot start thread {number} of {workers}: {error}");
                if number == 0 {
                    call.stop.set(Error::plugin(what));
                } else {
                    call.context.log(LogLevel::Warn, &what);
                }
                break;
            }
        }
        drop(sender);
        let (mut told, mut deadline) = (Instant::now(), None);
        loop {
            match receiver.recv_timeout(LOOK) {
                Ok((row, settled)) => {
                    if let Err(error) = sink.settle(row, settled) {
                        call.stop.set(error);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if call.context.cancelled() {
                let until = *deadline.get_or_insert_with(|| {
                    call.context.log(
                        LogLevel::Warn,
                        &format!(
                            "interrupted: waiting up to {} s for answers under way, which are paid",
                            PATIENCE.as_secs()
                        ),
                    );
                    Instant::now() + PATIENCE
                });
                if Instant::now() >= until {
                    asker.shutdown();
                }
            }
            if told.elapsed() >= TELL {
                told = Instant::now();
                call.context
                    .log(LogLevel::Info, &sink.summary().to_string());
            }
        }
    });
    if let Some(error) = call.stop.error() {
        return Err(error);
    }
    let summary = sink.summary();
    if summary.settled < summary.rows {
        interrupted(call)?;
    }
    Ok(())
}

/// One worker: rows from the queue until it is empty or the call ends.
fn work(
    call: &Call<'_>,
    asker: &Asker<'_>,
    queue: &Mutex<VecDeque<Open>>,
    sender: &SyncSender<(usize, Settled)>,
) {
    while call.goes_on() {
        let Some(open) = queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
        else {
            return;
        };
        let row = open.number();
        let settled = match guarded(|| ask_row(call, asker, open)) {
            Ok(Some(settled)) => settled,
            Ok(None) => return,
            Err(failure) => Settled {
                end: End::Failed(failure),
                tries: Vec::new(),
            },
        };
        if sender.send((row, settled)).is_err() {
            return;
        }
    }
}

/// One row to its end; `None` where the call ended first.
fn ask_row(call: &Call<'_>, asker: &Asker<'_>, open: Open) -> Option<Settled> {
    let mut state = match open {
        Open::Later(state) => *state,
        Open::Fresh(row) => match Row::begin(call, row) {
            Ok(state) => state,
            Err(error) => {
                call.stop.set(error);
                return None;
            }
        },
    };
    loop {
        let next = match asker.answer(state.number, &state.question) {
            Ok(answer) => state.take(call, answer),
            Err(NoAnswer::Failed(failure)) => state.fail(failure),
            Err(NoAnswer::Stopped) => return None,
        };
        match next {
            Next::Open(open) => state = open,
            Next::End(settled) => return Some(settled),
        }
    }
}
