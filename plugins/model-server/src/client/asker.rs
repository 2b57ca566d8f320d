//! One question to its answer: found among the kept ones, or sent until there is one.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use finegrain_sdk::context::LogLevel;
use finegrain_sdk::rng::Stream;
use finegrain_sdk::{Error, Result};
use jiff::Timestamp;

use super::Call;
use super::form::{Accounted, Form, answer, find_kept};
use crate::answers::{Layer, Record};
use crate::api::{Api, Body, shorten};
use crate::backoff::delay;
use crate::budget::{NotReserved, Reservation};
use crate::estimate;
use crate::outcome::{Answer, Failure, FailureKind};
use crate::pace::Gate;
use crate::prices::Price;
use crate::question::Question;
use crate::retry_after::{exhausted, text};
use crate::transport::{Received, Transport};
use crate::usd::Usd;
use crate::verdict::{LONGEST_WAIT, Verdict, verdict};

/// How often a request is sent again that may have been paid. Each time may be paid too.
const MOST_PAID: u32 = 2;
/// How often a request is sent again that was free.
pub(super) const MOST_FREE: u32 = 8;
/// How often a row waits because the server says so.
pub(super) const MOST_WAITS: u32 = 50;
/// So many rows in a row that the server does not answer end the call.
const MOST_UNAVAILABLE: u32 = 5;
/// The wait after a refusal for limits, where the server names none: the first of it, and it doubles.
const UNNAMED_WAIT: Duration = Duration::from_secs(2);

/// Why a question has no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// The row fails.
    Failed(Failure),
    /// The call has ended; the row has no end.
    Stopped,
}

/// Asks for the workers of one call.
pub(crate) struct Asker<'a> {
    call: &'a Call<'a>,
    transport: Transport,
    gate: Gate,
    price: Option<&'a Price>,
    /// Which form of bodies the server takes.
    form: AtomicUsize,
    unavailable: AtomicU32,
    accounted: &'a Accounted,
    random: Stream,
}

/// How often one question was sent.
#[derive(Default)]
struct Tries {
    sent: u32,
    paid: u32,
    free: u32,
    waits: u32,
}

impl<'a> Asker<'a> {
    /// Ready to ask; reads the key.
    ///
    /// # Errors
    /// There is no key, or no certificates where some were named.
    pub(crate) fn new(call: &'a Call<'a>, accounted: &'a Accounted) -> Result<Self> {
        let options = &call.server.options;
        Ok(Self {
            call,
            transport: Transport::new(call.server)?,
            gate: Gate::new(
                options.concurrency,
                options.requests_per_minute,
                options.tokens_per_minute,
            ),
            price: call.server.price_today(),
            form: AtomicUsize::new(0),
            unavailable: AtomicU32::new(0),
            accounted,
            random: call.context.stream().child("model-server"),
        })
    }

    /// The way to the server.
    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Ends the requests under way.
    pub(crate) fn shutdown(&self) {
        self.transport.shutdown();
    }

    /// The answer to a question about a row.
    ///
    /// # Errors
    /// The row fails, or the call has ended.
    pub(crate) fn answer(&self, row: usize, question: &Question) -> Result<Answer, NoAnswer> {
        let mut tries = Tries::default();
        loop {
            self.go_on()?;
            let form = self.form.load(Ordering::Relaxed);
            let asked = Form::new(self.call, question, form).map_err(|error| self.stop(error))?;
            let claim = match &self.call.layer {
                Some(layer) => Some(
                    layer
                        .claim(&asked.key, || self.call.goes_on())
                        .ok_or(NoAnswer::Stopped)?,
                ),
                None => None,
            };
            if let Some(layer) = &self.call.layer {
                layer.look_again().map_err(|error| self.stop(error))?;
                let kept = find_kept(self.call, self.accounted, question)
                    .map_err(|error| self.stop(error))?;
                if let Some(kept) = kept {
                    return Ok(kept);
                }
            }
            let ended = self.attempt(row, question, form, &asked, &mut tries)?;
            // Whoever waits for the same question should not wait for this one's patience.
            drop(claim);
            match ended {
                Ended::Answered(answer) => return Ok(*answer),
                Ended::Again(wait) => self.sleep(wait)?,
            }
        }
    }

    /// Sends a question once.
    fn attempt(
        &self,
        row: usize,
        question: &Question,
        form: usize,
        asked: &Form,
        tries: &mut Tries,
    ) -> Result<Ended, NoAnswer> {
        let random = self.random(row, tries.sent);
        let goes_on = || self.call.goes_on();
        let reservation = self.reserve(&asked.body)?;
        let tokens = estimate::likely(&asked.body.text) + u64::from(asked.body.max_tokens);
        let Some(permit) = self.gate.enter(tokens, random, goes_on) else {
            reservation.free();
            return Err(NoAnswer::Stopped);
        };
        let most = self.price.map(|_| reservation.most());
        let id = self.with_layer(|layer| layer.sent(&asked.key, most))?;
        if tries.sent > 0 {
            self.call.tally.again();
        }
        tries.sent += 1;
        let (started, clock) = (Timestamp::now(), Instant::now());
        let received = self.transport.post(&asked.body.text);
        let (status, headers, body, at) = match received {
            Received::Reply {
                status,
                headers,
                body,
                at,
            } => (status, headers, body, at),
            Received::Lost { paid, seen } => {
                drop(permit);
                return self.lost(
                    Loss {
                        paid,
                        seen,
                        wait: None,
                        unreadable: false,
                    },
                    reservation,
                    id,
                    tries,
                    random,
                );
            }
        };
        let url = self.transport.url();
        match verdict(&self.call.server.api, url, status, &headers, &body, at) {
            Verdict::Answer(value) => {
                let read = self.call.server.api.read(&asked.body.json, &value);
                permit.took(
                    read.usage
                        .map_or(tokens, |usage| usage.input + usage.output),
                );
                drop(permit);
                let usd = self
                    .price
                    .and_then(|price| Some(price.of(read.usage?, false)));
                let record = Record {
                    id: id.unwrap_or_default(),
                    request_id: text(&headers, "request-id")
                        .or_else(|| text(&headers, "x-request-id"))
                        .map(str::to_owned),
                    tier: Api::tier(&value).map(str::to_owned),
                    picodollars: usd.map(Usd::pico),
                    tries: tries.sent,
                    possibly_paid: tries.paid,
                    started: started.to_string(),
                    seconds: clock.elapsed().as_secs_f64(),
                    ..asked.record(self.call, question, read, body)
                };
                let record = self.keep(record)?;
                self.call.prove(asked.shape());
                reservation.cost(usd);
                self.gate.succeeded();
                if let Some(wait) = exhausted(&headers, SystemTime::now()) {
                    self.gate.used_up(wait.min(LONGEST_WAIT));
                }
                self.unavailable.store(0, Ordering::Relaxed);
                let answer = answer(&self.call.server.api, &record, &value, false);
                Ok(Ended::Answered(Box::new(answer)))
            }
            Verdict::Retry {
                after,
                paid,
                unreadable,
                seen,
            } => {
                drop(permit);
                self.gate.troubled();
                let loss = Loss {
                    paid,
                    seen,
                    wait: after.map(|wait| wait.min(LONGEST_WAIT)),
                    unreadable,
                };
                self.lost(loss, reservation, id, tries, random)
            }
            Verdict::PauseAll(wait, seen) => {
                drop(permit);
                self.free(reservation, id)?;
                tries.waits += 1;
                if tries.waits > MOST_WAITS {
                    return Err(failed(FailureKind::RateLimited, seen));
                }
                let unnamed = UNNAMED_WAIT * (1 << (tries.waits - 1).min(5));
                self.gate.limited(wait.unwrap_or(unnamed));
                // The gate holds everyone, this worker too.
                Ok(Ended::Again(Duration::ZERO))
            }
            Verdict::Stop(why) => {
                self.free(reservation, id)?;
                Err(self.stop(Error::plugin(why)))
            }
            Verdict::Row(failure) => {
                drop(permit);
                self.free(reservation, id)?;
                self.other_form(form, status, &body, failure)
            }
        }
    }

    /// A request without an answer: sent again, or the row fails.
    fn lost(
        &self,
        loss: Loss,
        reservation: Reservation<'_>,
        id: Option<String>,
        tries: &mut Tries,
        random: f64,
    ) -> Result<Ended, NoAnswer> {
        if loss.paid {
            tries.paid += 1;
            self.call.tally.possibly_paid(reservation.most());
            reservation.cost(None);
        } else {
            tries.free += 1;
            self.free(reservation, id)?;
        }
        self.go_on()?;
        if tries.paid > MOST_PAID || tries.free > MOST_FREE {
            let kind = if loss.unreadable {
                FailureKind::Unreadable
            } else {
                let rows = self.unavailable.fetch_add(1, Ordering::Relaxed) + 1;
                if rows >= MOST_UNAVAILABLE {
                    return Err(self.stop(Error::plugin(format!(
                        "{} has not answered {rows} rows one after the other, each asked several times; the last time: {}",
                        self.transport.url(),
                        loss.seen
                    ))));
                }
                FailureKind::Unavailable
            };
            return Err(failed(kind, loss.seen));
        }
        Ok(Ended::Again(delay(
            tries.paid + tries.free,
            loss.wait,
            random,
        )))
    }

    /// Goes on with another form of the body where the server has refused a field of this one; else the row fails.
    fn other_form(
        &self,
        form: usize,
        status: u16,
        body: &str,
        failure: Failure,
    ) -> Result<Ended, NoAnswer> {
        let api = &self.call.server.api;
        let Some(next) = api.form_after(form, status, body) else {
            return Err(NoAnswer::Failed(failure));
        };
        let changed = self
            .form
            .compare_exchange(form, next, Ordering::Relaxed, Ordering::Relaxed);
        if changed.is_ok() {
            self.call.context.log(
                LogLevel::Info,
                &format!(
                    "the server refuses a field and is asked without it from here on: {}",
                    shorten(&failure.detail)
                ),
            );
        }
        Ok(Ended::Again(Duration::ZERO))
    }

    /// Sets aside the most that a body can cost.
    fn reserve(&self, body: &Body) -> Result<Reservation<'_>, NoAnswer> {
        let most = self.price.map(|price| {
            price.at_most(
                estimate::at_most(body.text.len()),
                u64::from(body.max_tokens),
                false,
            )
        });
        let most = most.unwrap_or_default();
        self.call
            .budget
            .reserve(most, || self.call.goes_on())
            .map_err(|why| match why {
                NotReserved::GaveUp => NoAnswer::Stopped,
                NotReserved::Exceeded { spent, cap } => self.stop(over_budget(cap, spent, most)),
            })
    }

    /// Keeps an answer where there is a folder.
    ///
    /// # Errors
    /// It could not be written, which has ended the call.
    pub(crate) fn keep(&self, record: Record) -> Result<Record, NoAnswer> {
        let Some(layer) = &self.call.layer else {
            return Ok(record);
        };
        let (record, others) = layer.keep(record).map_err(|error| self.stop(error))?;
        if let Some(others) = others {
            let others: Vec<String> = others.into_iter().collect();
            self.call.context.log(
                LogLevel::Warn,
                &format!(
                    "{} is answered by {:?} now, and was by {:?} before: answers of both are kept",
                    record.model_asked,
                    record.model_answered,
                    others.join(", ")
                ),
            );
        }
        Ok(record)
    }

    /// A request has cost nothing.
    fn free(&self, reservation: Reservation<'_>, id: Option<String>) -> Result<(), NoAnswer> {
        reservation.free();
        match (&self.call.layer, id) {
            (Some(layer), Some(id)) => layer.unpaid(id).map_err(|error| self.stop(error)),
            _ => Ok(()),
        }
    }

    fn with_layer<T>(&self, what: impl FnOnce(&Layer) -> Result<T>) -> Result<Option<T>, NoAnswer> {
        let layer = self.call.layer.as_ref();
        layer
            .map(what)
            .transpose()
            .map_err(|error| self.stop(error))
    }

    /// Ends the call.
    fn stop(&self, error: Error) -> NoAnswer {
        self.call.stop.set(error);
        NoAnswer::Stopped
    }

    fn go_on(&self) -> Result<(), NoAnswer> {
        if self.call.goes_on() {
            Ok(())
        } else {
            Err(NoAnswer::Stopped)
        }
    }

    fn sleep(&self, wait: Duration) -> Result<(), NoAnswer> {
        let until = Instant::now() + wait;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.go_on()?;
            thread::sleep(left.min(Duration::from_millis(100)));
        }
        Ok(())
    }

    /// A number in [0, 1) for a try of a row.
    fn random(&self, row: usize, try_: u32) -> f64 {
        let draw = self.random.index(row as u64).index(try_.into()).seed();
        // The 53 bits that a float holds.
        (draw >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// How a try ended.
enum Ended {
    Answered(Box<Answer>),
    Again(Duration),
}

/// A request without an answer.
struct Loss {
    paid: bool,
    seen: String,
    wait: Option<Duration>,
    unreadable: bool,
}

/// The error of a budget that does not reach.
pub(crate) fn over_budget(cap: Usd, spent: Usd, most: Usd) -> Error {
    Error::plugin(format!(
        "the budget of {cap} does not reach: {spent} is spent, and the next request may cost {most}; raise budget_usd, or lower \
         max_tokens"
    ))
}

fn failed(kind: FailureKind, seen: String) -> NoAnswer {
    NoAnswer::Failed(Failure::new(kind, seen))
}
