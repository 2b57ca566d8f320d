//! Looking for a batch that was posted and whose id nobody wrote down.

use std::time::Duration;

use finegrain_sdk::serde_json;
use finegrain_sdk::{Error, Result};
use jiff::{SignedDuration, Timestamp};

use super::Batches;
use super::live::Live;
use super::remote::{Page, Remote};
use super::wait::silent;
use crate::transport::Received;
use crate::verdict::{Verdict, verdict};

/// How far the server's clock may be behind this one's.
const SKEW: SignedDuration = SignedDuration::from_hours(1);
/// Batches of a page of the list.
const PAGE: usize = 100;

/// What a search has found.
pub(super) enum Searched {
    /// A batch that may be it: made no earlier, of as many requests, and of no other intent. Only results tell.
    Perhaps(Remote),
    /// None yet; the server may still be making it.
    NotYet,
    /// None, and it would be there by now.
    Nowhere,
}

impl Batches<'_> {
    /// Looks for a batch without an id among those that the server lists since its intent.
    pub(super) fn search(&mut self, live: &mut Live<'_>) -> Result<Searched> {
        let earliest = live.batch.at - SKEW;
        let known = self.layer.batch_ids();
        let mut candidates: Vec<Remote> = Vec::new();
        let mut after = String::new();
        loop {
            let url = format!("{}?limit={PAGE}{after}", self.url);
            let page = match self.page(&url)? {
                Ok(page) => page,
                Err(seen) => {
                    silent(live, &url, &seen)?;
                    return Ok(Searched::NotYet);
                }
            };
            live.silent = 0;
            let is_older = page.data.iter().any(|remote| remote.created() < earliest);
            candidates.extend(page.data.into_iter().filter(|remote| {
                remote.created() >= earliest
                    && remote.len() == live.batch.keys.len()
                    && !known.contains(&remote.id)
                    && !self.not_ours.contains(&remote.id)
            }));
            match page.last_id {
                Some(last) if page.has_more && !is_older => after = format!("&after_id={last}"),
                _ => break,
            }
        }
        // Of several, the nearest behind the intent: batches of other intents come later or were made before.
        let distance = |remote: &Remote| remote.created().duration_since(live.batch.at).abs();
        if let Some(nearest) = candidates.into_iter().min_by_key(distance) {
            return Ok(Searched::Perhaps(nearest));
        }
        let waited = Timestamp::now().duration_since(live.since);
        Ok(if waited.unsigned_abs() >= self.call.server.poll {
            Searched::Nowhere
        } else {
            Searched::NotYet
        })
    }

    /// A page of the list, or what came instead of it.
    fn page(&mut self, url: &str) -> Result<Result<Page, String>> {
        match self.interruptible(Duration::ZERO, |it| it.asker.transport().get(url)) {
            Received::Reply {
                status: 200, body, ..
            } => Ok(serde_json::from_str(&body)
                .map_err(|error| format!("the reply is no list of batches: {error}"))),
            Received::Reply {
                status,
                headers,
                body,
                at,
            } => match verdict(&self.call.server.api, url, status, &headers, &body, at) {
                Verdict::Stop(why) => Err(Error::plugin(why)),
                _ => Ok(Err(format!("HTTP {status}"))),
            },
            Received::Lost { seen, .. } => Ok(Err(seen)),
        }
    }
}
