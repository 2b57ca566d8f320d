//! Waiting for batches: looks that grow rarer, an interrupt that leaves them at work.

use std::time::{Duration, Instant};

use finegrain_sdk::context::LogLevel;
use finegrain_sdk::{Error, Result};
use jiff::{SignedDuration, Timestamp};

use super::super::interrupted;
use super::super::known::Open;
use super::Batches;
use super::live::Live;
use super::questions::Questions;
use super::remote::Remote;
use super::results::Outcome;
use super::search::Searched;
use crate::transport::Received;
use crate::verdict::{Verdict, verdict};

/// The first wait, as a part of the longest.
const FIRST: u32 = 10;
/// How often in a row the server may say nothing about a batch.
const MOST_SILENT: u32 = 30;
/// How often a batch is posted that is nowhere afterwards.
const MOST_LOST: u32 = 3;
/// How long the server keeps results.
const KEPT: SignedDuration = SignedDuration::from_hours(29 * 24);
/// How often the log is told that batches are waited for.
const TELL: Duration = Duration::from_mins(10);

impl<'a> Batches<'a> {
    /// Waits for batches and keeps their answers.
    ///
    /// # Errors
    /// An interrupt, which leaves the batches at work; a server that refuses the key or does not know a batch; an answer that
    /// could not be stored.
    pub(super) fn wait(
        &mut self,
        mut live: Vec<Live<'a>>,
        rows: &[Open],
        questions: &Questions,
    ) -> Result<()> {
        let longest = self.call.server.poll;
        let mut wait = longest / FIRST;
        let mut told = Instant::now();
        loop {
            let mut left = Vec::with_capacity(live.len());
            for one in live {
                if let Some(one) = self.look(one, rows, questions)? {
                    left.push(one);
                }
            }
            live = left;
            if live.is_empty() {
                return Ok(());
            }
            if told.elapsed() >= TELL {
                told = Instant::now();
                self.say(LogLevel::Info, &format!("waiting for {}", names(&live)));
            }
            if !self.sleep(wait) {
                self.say(
                    LogLevel::Warn,
                    &format!(
                        "interrupted: {} goes on at the server and is paid; the same command takes its answers, and `finegrain \
                         answers cancel-batch` ends it",
                        names(&live)
                    ),
                );
                interrupted(self.call)?;
                return Ok(());
            }
            wait = (wait * 3 / 2).min(longest);
        }
    }

    /// Looks at a batch, and reads its results where it has ended. Returns it where it has not.
    fn look(
        &mut self,
        mut live: Live<'a>,
        rows: &[Open],
        questions: &Questions,
    ) -> Result<Option<Live<'a>>> {
        let remote = match live.batch.id.clone() {
            Some(id) => match self.ask_about(&mut live, &id)? {
                Some(remote) => remote,
                None if self.read.contains(&live.batch.intent) => return Ok(None),
                None => return Ok(Some(live)),
            },
            None => match self.search(&mut live)? {
                Searched::Perhaps(remote) => {
                    self.lost = 0;
                    remote
                }
                Searched::NotYet => return Ok(Some(live)),
                Searched::Nowhere => {
                    live.free();
                    self.ended(&live.batch.intent, "never arrived")?;
                    self.lost += 1;
                    if self.lost >= MOST_LOST {
                        return Err(Error::plugin(format!(
                            "{} has lost {} batches one after the other: none is in its list",
                            self.url, self.lost
                        )));
                    }
                    return Ok(None);
                }
            },
        };
        if !remote.has_ended() {
            live.seen = true;
            return Ok(Some(live));
        }
        let canceled = (live.seen && remote.cancel_initiated_at.is_some()).then(|| {
            Error::plugin(format!(
                "batch {} was canceled, {} of its {} questions before they were answered; the same command asks them again",
                remote.id,
                remote.canceled(),
                remote.len()
            ))
        });
        let read = self.interruptible(Duration::ZERO, |it| {
            it.results(live, &remote, rows, questions)
        });
        match read? {
            Outcome::Read => {
                self.ending = self.ending.take().or(canceled);
                Ok(None)
            }
            Outcome::NotOurs(live) => {
                self.not_ours.insert(remote.id);
                Ok(Some(live))
            }
            Outcome::Cut(live) => Ok(Some(live)),
        }
    }

    /// What the server says of a batch; `None` where it says nothing now, or has it no more.
    fn ask_about(&mut self, live: &mut Live<'a>, id: &str) -> Result<Option<Remote>> {
        let url = format!("{}/{id}", self.url);
        let received = self.interruptible(Duration::ZERO, |it| it.asker.transport().get(&url));
        let seen = match received {
            Received::Reply {
                status: 200, body, ..
            } => match Remote::parse(&body) {
                Ok(remote) if remote.archived_at.is_some() => {
                    self.gone(live, id)?;
                    return Ok(None);
                }
                Ok(remote) => {
                    live.silent = 0;
                    return Ok(Some(remote));
                }
                Err(error) => format!("the reply is no batch: {error}"),
            },
            Received::Reply { status: 404, .. } => {
                if Timestamp::now().duration_since(live.batch.at) < KEPT {
                    return Err(Error::plugin(format!(
                        "{url} is not known to the server: use the key of the account that posted it, or give its answers up \
                         with `finegrain answers give-up-batch {id}`, which pays for its questions again"
                    )));
                }
                self.gone(live, id)?;
                return Ok(None);
            }
            Received::Reply {
                status,
                headers,
                body,
                at,
            } => match verdict(&self.call.server.api, &url, status, &headers, &body, at) {
                Verdict::Stop(why) => return Err(Error::plugin(why)),
                _ => format!("HTTP {status}"),
            },
            Received::Lost { seen, .. } => seen,
        };
        silent(live, &url, &seen)?;
        Ok(None)
    }

    /// The server keeps the results of a batch no more.
    fn gone(&mut self, live: &mut Live<'a>, id: &str) -> Result<()> {
        self.say(
            LogLevel::Warn,
            &format!(
                "batch {id} is older than the server keeps results: its questions are asked again"
            ),
        );
        live.free();
        self.ended(&live.batch.intent, "gone")
    }
}

/// The server has told nothing of a batch once more: that is waited out, but not for ever.
pub(super) fn silent(live: &mut Live<'_>, url: &str, seen: &str) -> Result<()> {
    live.silent += 1;
    if live.silent < MOST_SILENT {
        return Ok(());
    }
    Err(Error::plugin(format!(
        "{url} has told nothing {} times, the last time: {seen}; the batch goes on, and the same command takes its answers",
        live.silent
    )))
}

fn names(live: &[Live<'_>]) -> String {
    let names: Vec<String> = live.iter().map(Live::name).collect();
    names.join(", ")
}
