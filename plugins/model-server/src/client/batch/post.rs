//! Posting: an intent on the disk, then the batch, then its id on the disk.

use std::mem;
use std::time::Duration;

use finegrain_sdk::context::LogLevel;
use finegrain_sdk::{Error, Result};
use jiff::Timestamp;

use super::super::asker::{MOST_FREE, MOST_WAITS};
use super::super::interrupted;
use super::super::known::Open;
use super::super::workers::PATIENCE;
use super::live::Live;
use super::pack::Pack;
use super::questions::Questions;
use super::remote::Remote;
use super::{Batches, over_budget};
use crate::answers::Batch;
use crate::api::Body;
use crate::backoff::delay;
use crate::budget::{NotReserved, Reservation};
use crate::estimate;
use crate::transport::Received;
use crate::usd::Usd;
use crate::verdict::{LONGEST_WAIT, Verdict, verdict};

/// The wait after a refusal for limits, where the server names none.
const UNNAMED_WAIT: Duration = Duration::from_secs(10);

impl<'a> Batches<'a> {
    /// Posts the questions of free rows, as far as the budget reaches, in as many batches as they need.
    pub(super) fn post(&mut self, rows: &[Open], free: &[usize]) -> Result<Vec<Live<'a>>> {
        let (mut live, mut pack) = (Vec::new(), Pack::default());
        for &at in free {
            let (_, form) = self.form(&rows[at])?;
            let Some(reservation) = self.reserve(&form.body) else {
                break;
            };
            if !pack.takes(&form) {
                // What an interrupt finds unsent stays so; the batches before are the business of whoever waits.
                if !self.call.goes_on() {
                    return Ok(live);
                }
                live.push(self.send(mem::take(&mut pack))?);
            }
            pack.push(&form, reservation);
        }
        if !pack.is_empty() && self.call.goes_on() {
            live.push(self.send(pack)?);
        }
        Ok(live)
    }

    /// A batch of an earlier call, or of another process. What its questions can cost is set aside whether or not the budget
    /// reaches, for it is spent.
    pub(super) fn resume(
        &self,
        batch: Batch,
        rows: &[Open],
        questions: &Questions,
    ) -> Result<Live<'a>> {
        let mut held = Vec::with_capacity(batch.keys.len());
        for key in &batch.keys {
            held.push(match questions.position(key) {
                Some(at) => {
                    let (_, form) = self.form(&rows[at])?;
                    Some(self.call.budget.hold(self.most(&form.body)))
                }
                None => None,
            });
        }
        let live = Live::new(batch, held);
        self.say(
            LogLevel::Info,
            &format!(
                "{} has {} of this call's questions: its answers are waited for",
                live.name(),
                live.asked
                    .values()
                    .filter(|asked| asked.reservation.is_some())
                    .count()
            ),
        );
        Ok(live)
    }

    /// Sets aside the most that a question can cost in a batch; `None` where it does not fit now, or never.
    fn reserve(&mut self, body: &Body) -> Option<Reservation<'a>> {
        let most = self.most(body);
        match self.call.budget.reserve(most, || false) {
            Ok(reservation) => Some(reservation),
            Err(NotReserved::GaveUp) => None,
            Err(NotReserved::Exceeded { spent, cap }) => {
                self.ending = Some(over_budget(cap, spent, most));
                None
            }
        }
    }

    fn most(&self, body: &Body) -> Usd {
        let price = self.call.server.price_today();
        let read = estimate::at_most(body.text.len());
        price.map_or(Usd::ZERO, |it| {
            it.at_most(read, body.max_tokens.into(), true)
        })
    }

    /// Posts one batch. Where nobody knows whether it has arrived, it comes back without an id, to be looked for.
    fn send(&mut self, pack: Pack<'a>) -> Result<Live<'a>> {
        let (body, keys, reservations) = pack.into_parts();
        let most = reservations.iter().flatten().map(Reservation::most);
        let most = most.fold(Usd::ZERO, Usd::plus);
        let priced = self.call.server.price_today().is_some();
        let address = self.call.server.address.as_str();
        let batch = self.layer.intend(address, keys, priced.then_some(most))?;
        let mut live = Live::new(batch, reservations);
        let (mut tries, mut waits) = (0, 0);
        loop {
            let received = self.interruptible(PATIENCE, |it| {
                it.asker.transport().post_long(&it.url, &body)
            });
            let wait = match received {
                Received::Reply {
                    status: 200, body, ..
                } => {
                    // An unreadable reply is as good as none: the batch is looked for.
                    if let Ok(remote) = Remote::parse(&body) {
                        self.layer.posted(&live.batch.intent, &remote.id)?;
                        live.batch.id = Some(remote.id);
                        self.say(
                            LogLevel::Info,
                            &format!(
                                "{} with {} questions is posted",
                                live.name(),
                                live.asked.len()
                            ),
                        );
                    }
                    live.since = Timestamp::now();
                    return Ok(live);
                }
                Received::Reply {
                    status,
                    headers,
                    body,
                    at,
                } => match verdict(
                    &self.call.server.api,
                    &self.url,
                    status,
                    &headers,
                    &body,
                    at,
                ) {
                    Verdict::PauseAll(wait, seen) => {
                        waits += 1;
                        if waits > MOST_WAITS {
                            let what =
                                format!("{} takes no batch, {waits} times: {seen}", self.url);
                            return Err(self.refused(live, what));
                        }
                        self.say(LogLevel::Warn, &format!("the batch waits: {seen}"));
                        wait.unwrap_or(UNNAMED_WAIT).min(LONGEST_WAIT)
                    }
                    Verdict::Stop(why) => return Err(self.refused(live, why)),
                    // Of these, `x-should-retry: false` says that nothing is won by another try, not that nothing was made.
                    Verdict::Row(_) if matches!(status, 408 | 409 | 500..) => {
                        live.since = Timestamp::now();
                        return Ok(live);
                    }
                    Verdict::Row(failure) => {
                        return Err(self
                            .refused(live, format!("{} refuses the batch: {failure}", self.url)));
                    }
                    // Whoever gave up may have made it all the same.
                    Verdict::Retry { .. } | Verdict::Answer(_) => {
                        live.since = Timestamp::now();
                        return Ok(live);
                    }
                },
                Received::Lost { paid: true, .. } => {
                    live.since = Timestamp::now();
                    return Ok(live);
                }
                Received::Lost { paid: false, seen } => {
                    if tries >= MOST_FREE {
                        let what = format!("{} cannot be reached: {seen}", self.url);
                        return Err(self.refused(live, what));
                    }
                    tries += 1;
                    delay(tries, None, 0.5)
                }
            };
            if !self.sleep(wait) {
                self.ended(&live.batch.intent, "never sent")?;
                live.free();
                interrupted(self.call)?;
                return Err(Error::plugin("the call has ended"));
            }
        }
    }

    /// The error of a batch that is not at the server.
    fn refused(&mut self, mut live: Live<'a>, why: String) -> Error {
        live.free();
        match self.ended(&live.batch.intent, "refused") {
            Ok(()) => Error::plugin(why),
            Err(error) => error,
        }
    }
}
