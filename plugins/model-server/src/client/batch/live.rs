//! A batch that this call waits for.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use crate::answers::{Batch, custom_id};
use crate::budget::Reservation;

/// A batch under way, and what of it this call pays for.
pub(super) struct Live<'a> {
    /// As the folder knows it.
    pub(super) batch: Batch,
    /// The names of its questions in the batch.
    pub(super) names: HashSet<String>,
    /// The questions whose results were not read yet, by these names.
    pub(super) asked: HashMap<String, Asked<'a>>,
    /// The moment after which it must be in the server's list, where it has no id yet.
    pub(super) since: Timestamp,
    /// Whether it was seen at work by this call.
    pub(super) seen: bool,
    /// How often in a row the server has not told about it.
    pub(super) silent: u32,
    /// How often its results were cut.
    pub(super) cut: u32,
    /// How many of its results were read that another call has to take: they are left at the server.
    pub(super) foreign: usize,
}

/// A question of a batch.
pub(super) struct Asked<'a> {
    /// Its key.
    pub(super) key: String,
    /// What is set aside for it; `None` where another call asked.
    pub(super) reservation: Option<Reservation<'a>>,
}

impl<'a> Live<'a> {
    /// A batch with what is set aside for its questions, in the order of its keys.
    pub(super) fn new(
        batch: Batch,
        reservations: impl IntoIterator<Item = Option<Reservation<'a>>>,
    ) -> Self {
        let asked: HashMap<String, Asked<'a>> = batch
            .keys
            .iter()
            .zip(reservations)
            .map(|(key, reservation)| {
                let asked = Asked {
                    key: key.clone(),
                    reservation,
                };
                (custom_id(key).to_owned(), asked)
            })
            .collect();
        Self {
            since: batch.at,
            names: asked.keys().cloned().collect(),
            batch,
            asked,
            seen: false,
            silent: 0,
            cut: 0,
            foreign: 0,
        }
    }

    /// Its name for messages.
    pub(super) fn name(&self) -> String {
        match &self.batch.id {
            Some(id) => format!("batch {id}"),
            None => format!("the batch of {} whose id is not known yet", self.batch.at),
        }
    }

    /// Nothing of it costs anything.
    pub(super) fn free(&mut self) {
        for (_, asked) in self.asked.drain() {
            if let Some(reservation) = asked.reservation {
                reservation.free();
            }
        }
    }
}
