//! Results of a batch that has ended: line by line, in any order, each kept before it is read.

use finegrain_sdk::context::LogLevel;
use finegrain_sdk::serde::Deserialize;
use finegrain_sdk::serde_json::value::RawValue;
use finegrain_sdk::serde_json::{self, Value};
use finegrain_sdk::{Error, Result};
use jiff::Timestamp;

use super::super::asker::NoAnswer;
use super::super::form::BATCH_TIER;
use super::super::known::Open;
use super::Batches;
use super::errored::meaning;
use super::live::{Asked, Live};
use super::questions::Questions;
use super::remote::Remote;
use crate::answers::Record;
use crate::budget::Reservation;
use crate::outcome::{Failure, FailureKind};
use crate::transport::Received;
use crate::usd::Usd;
use crate::verdict::{Verdict, verdict};

/// What became of reading.
pub(super) enum Outcome<'a> {
    /// Everything was read.
    Read,
    /// The batch is another one's, for its results have other names.
    NotOurs(Live<'a>),
    /// The reply was cut; what came before is kept.
    Cut(Live<'a>),
}

/// One line.
#[derive(Deserialize)]
#[serde(crate = "finegrain_sdk::serde")]
struct Line<'a> {
    custom_id: String,
    #[serde(borrow)]
    result: Found<'a>,
}

/// The result in it.
#[derive(Deserialize)]
#[serde(crate = "finegrain_sdk::serde")]
struct Found<'a> {
    r#type: String,
    /// The body of the answer, byte for byte.
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    error: Option<Value>,
}

/// A question that cost nothing.
fn free(reservation: Option<Reservation<'_>>) {
    if let Some(reservation) = reservation {
        reservation.free();
    }
}

impl<'a> Batches<'a> {
    /// Reads the results of a batch. Answers to questions that are not this call's stay at the server, for whoever asks them.
    pub(super) fn results(
        &mut self,
        mut live: Live<'a>,
        remote: &Remote,
        rows: &[Open],
        questions: &Questions,
    ) -> Result<Outcome<'a>> {
        // By address and id: `results_url` may name another host, and the key would go there.
        let url = format!("{}/{}/results", self.url, remote.id);
        let mut lines = match self.asker.transport().lines(&url) {
            Ok(lines) => lines,
            Err(received) => return self.unread(live, &url, *received),
        };
        let mut read = 0;
        loop {
            let line = match lines.next() {
                Ok(Some(line)) if line.is_empty() => continue,
                Ok(Some(line)) => line,
                Ok(None) if read < remote.len() => {
                    let seen = format!("{read} of {} results", remote.len());
                    return cut(live, &url, &seen);
                }
                Ok(None) => break,
                Err(error) => return cut(live, &url, &error.to_string()),
            };
            let line: Line<'_> = match serde_json::from_str(&line) {
                Ok(line) => line,
                Err(error) => {
                    return cut(live, &url, &format!("a line that is none: {error}"));
                }
            };
            read += 1;
            if !live.names.contains(&line.custom_id) {
                if live.batch.id.is_none() {
                    return Ok(Outcome::NotOurs(live));
                }
                let what = format!("{url}: {:?} is no question of this batch", line.custom_id);
                self.say(LogLevel::Warn, &what);
                continue;
            }
            if live.batch.id.is_none() {
                self.layer.posted(&live.batch.intent, &remote.id)?;
                live.batch.id = Some(remote.id.clone());
            }
            // A line of a reply that was cut before comes again.
            let Some(asked) = live.asked.remove(&line.custom_id) else {
                continue;
            };
            live.foreign += usize::from(!self.take(&live, asked, &line, rows, questions)?);
        }
        for (_, asked) in live.asked.drain() {
            // Nobody knows whether it is paid.
            self.again(
                &asked.key,
                "the batch has ended without a result".to_owned(),
            );
        }
        self.say(
            LogLevel::Info,
            &format!("{} has ended: {read} results are read", live.name()),
        );
        if live.foreign == 0 {
            self.ended(&live.batch.intent, "read")?;
        } else {
            self.read.insert(live.batch.intent);
        }
        Ok(Outcome::Read)
    }

    /// No results where there should be some.
    fn unread(&self, live: Live<'a>, url: &str, received: Received) -> Result<Outcome<'a>> {
        match received {
            Received::Reply {
                status,
                headers,
                body,
                at,
            } => match verdict(&self.call.server.api, url, status, &headers, &body, at) {
                Verdict::Stop(why) => Err(Error::plugin(why)),
                _ => cut(live, url, &format!("HTTP {status}")),
            },
            Received::Lost { seen, .. } => cut(live, url, &seen),
        }
    }

    /// Takes one result; says whether nothing of it is left at the server that is not kept here.
    fn take(
        &mut self,
        live: &Live<'a>,
        asked: Asked<'a>,
        line: &Line<'_>,
        rows: &[Open],
        questions: &Questions,
    ) -> Result<bool> {
        let Asked { key, reservation } = asked;
        match (&*line.result.r#type, line.result.message) {
            ("succeeded", Some(message)) => {
                if let Some(record) = self.layer.find(&key)? {
                    if let Some(reservation) = reservation {
                        reservation.cost(record.usd());
                    }
                    return Ok(true);
                }
                let Some(at) = questions.position(&key) else {
                    return Ok(false);
                };
                let usd = self.keep(live, &rows[at], message.get())?;
                if let Some(reservation) = reservation {
                    reservation.cost(usd);
                }
            }
            ("errored", _) => {
                free(reservation);
                let error = line.result.error.clone().unwrap_or_default();
                match meaning(&self.call.server.api, &self.url, &error) {
                    Verdict::Stop(why) => {
                        self.ending.get_or_insert_with(|| Error::plugin(why));
                    }
                    Verdict::Row(failure) => {
                        self.failed.insert(key, failure);
                    }
                    Verdict::Retry { seen, .. } | Verdict::PauseAll(_, seen) => {
                        self.again(&key, seen);
                    }
                    Verdict::Answer(_) => {}
                }
            }
            (kind @ ("canceled" | "expired"), _) => {
                free(reservation);
                self.again(&key, format!("{kind} in {}", live.name()));
            }
            (other, _) => {
                // Nobody knows whether it is paid.
                let failure = Failure::new(FailureKind::Unreadable, format!("a result {other:?}"));
                self.failed.insert(key, failure);
            }
        }
        Ok(true)
    }

    /// Keeps an answer; returns what it cost, where that is known.
    fn keep(&mut self, live: &Live<'a>, open: &Open, response: &str) -> Result<Option<Usd>> {
        let api = &self.call.server.api;
        let (row, form) = self.form(open)?;
        let value = match api.envelope(response) {
            Ok(value) => value,
            Err(seen) => {
                let failure = Failure::new(FailureKind::Unreadable, seen);
                self.failed.insert(form.key, failure);
                return Ok(None);
            }
        };
        let read = api.read(&form.body.json, &value);
        let price = self.call.server.price_today();
        let usd = price.and_then(|price| Some(price.of(read.usage?, true)));
        let record = Record {
            id: self.layer.new_id(),
            // What the bill has, whatever the answer says.
            tier: Some(BATCH_TIER.to_owned()),
            request_id: live.batch.id.clone(),
            picodollars: usd.map(Usd::pico),
            started: live.batch.at.to_string(),
            seconds: Timestamp::now().duration_since(live.batch.at).as_secs_f64(),
            ..form.record(self.call, &row.question, read, response.to_owned())
        };
        match self.asker.keep(record) {
            Ok(record) => {
                self.call.answered(&record.key);
                Ok(usd)
            }
            Err(NoAnswer::Failed(failure)) => Err(Error::plugin(failure.to_string())),
            Err(NoAnswer::Stopped) => Err(self
                .call
                .stop
                .error()
                .unwrap_or_else(|| Error::plugin("the call has ended"))),
        }
    }
}

/// The reply was cut: it is read again at the next look, but not for ever.
fn cut<'a>(mut live: Live<'a>, url: &str, seen: &str) -> Result<Outcome<'a>> {
    const MOST: u32 = 10;
    live.cut += 1;
    if live.cut >= MOST {
        return Err(Error::plugin(format!(
            "{url} cannot be read, {MOST} times, the last time: {seen}; what came is kept, and the same command goes on"
        )));
    }
    Ok(Outcome::Cut(live))
}
