//! Random ragged batches, the same in every run, and the context of a call.

use std::sync::atomic::AtomicBool;

use finegrain_sdk::kinds::{
    Comparisons, EditRequests, Rollouts, ScoredPairs, ScoredSide, Trajectories,
};
use finegrain_sdk::rng::Stream;
use finegrain_sdk::{CallContext, Ragged, TextBatch};

static NOT_CANCELLED: AtomicBool = AtomicBool::new(false);

/// A context that throws log and progress away.
pub(super) fn context() -> CallContext<'static> {
    CallContext {
        seed: 11,
        step: 3,
        threads: 1,
        cancel: &NOT_CANCELLED,
        log: &|_, _| {},
        progress: &|_, _| {},
        answers: None,
    }
}

/// The numbers of a batch, drawn one after the other.
struct Draws {
    stream: Stream,
    drawn: u64,
}

impl Draws {
    fn new(seed: u64) -> Self {
        let stream = Stream::new(seed).child("plugin batches");
        Self { stream, drawn: 0 }
    }

    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.drawn += 1;
        self.stream.index(self.drawn).seed() % bound
    }

    /// `n` real numbers in [−4, 4), with digits that f32 does not hold.
    fn reals(&mut self, n: usize) -> Vec<f32> {
        (0..n)
            .map(|_| (self.below(1 << 40) as f64 / f64::from(1u32 << 31) / 64.0 - 4.0) as f32)
            .collect()
    }

    /// `n` token ids below `bound`.
    fn ids(&mut self, n: usize, bound: u64) -> Vec<u32> {
        (0..n).map(|_| self.below(bound) as u32).collect()
    }

    /// Offsets of `rows` rows of 1 to 12 elements.
    fn offsets(&mut self, rows: usize) -> Vec<u64> {
        let mut offsets = vec![0];
        for row in 0..rows {
            offsets.push(offsets[row] + 1 + self.below(12));
        }
        offsets
    }

    /// Words, so that editors and judges of text find something to do.
    fn texts(&mut self, rows: usize) -> Texts {
        let words = [
            "red", "green", "blue", "one", "two", "the", "cat", ".", "größer",
        ];
        let texts = (0..rows).map(|_| {
            let n = 1 + self.below(9);
            let text: Vec<&str> = (0..n)
                .map(|_| words[self.below(words.len() as u64) as usize])
                .collect();
            text.join(" ")
        });
        Texts::new(texts.collect())
    }
}

/// Owned texts.
pub(super) struct Texts {
    text: String,
    offsets: Vec<u64>,
}

impl Texts {
    pub(super) fn new(texts: Vec<String>) -> Self {
        let mut offsets = vec![0];
        let mut text = String::new();
        for one in texts {
            text += &one;
            offsets.push(text.len() as u64);
        }
        Self { text, offsets }
    }

    pub(super) fn batch(&self) -> TextBatch<'_> {
        TextBatch::new(self.text.as_bytes(), &self.offsets).unwrap()
    }
}

/// Enough for one call of any plugin.
pub(super) struct Batch {
    rows: usize,
    offsets: Vec<u64>,
    other_offsets: Vec<u64>,
    scores: Vec<f32>,
    other_scores: Vec<f32>,
    values: Vec<f32>,
    ids: Vec<u32>,
    other_ids: Vec<u32>,
    changed: Vec<u8>,
    other_changed: Vec<u8>,
    prompt_offsets: Vec<u64>,
    prompt_ids: Vec<u32>,
    ended: Vec<u8>,
    groups: Vec<u64>,
    names: Texts,
    pub(super) prompts: Texts,
    pub(super) responses: Texts,
    pub(super) others: Texts,
}

impl Batch {
    /// `rows` rows, in groups of two; an even number.
    pub(super) fn new(seed: u64, rows: usize) -> Self {
        let mut draws = Draws::new(seed);
        let offsets = draws.offsets(rows);
        let other_offsets = draws.offsets(rows);
        let prompt_offsets = draws.offsets(rows);
        let tokens = offsets[rows] as usize;
        let other_tokens = other_offsets[rows] as usize;
        let prompt_tokens = prompt_offsets[rows] as usize;
        let marks = |ids: Vec<u32>| ids.into_iter().map(|id| id as u8).collect();
        Self {
            rows,
            scores: draws.reals(tokens),
            other_scores: draws.reals(other_tokens),
            values: draws.reals(tokens),
            ids: draws.ids(tokens, 7),
            other_ids: draws.ids(other_tokens, 7),
            changed: marks(draws.ids(tokens, 2)),
            other_changed: marks(draws.ids(other_tokens, 2)),
            prompt_ids: draws.ids(prompt_tokens, 7),
            ended: marks(draws.ids(rows, 2)),
            groups: (0..=rows as u64).step_by(2).collect(),
            names: Texts::new((0..rows).map(|row| format!("row-{row}")).collect()),
            prompts: draws.texts(rows),
            responses: draws.texts(rows),
            others: draws.texts(rows),
            offsets,
            other_offsets,
            prompt_offsets,
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn pairs(&self) -> ScoredPairs<'_> {
        ScoredPairs {
            chosen: ScoredSide {
                scores: Ragged::new(&self.scores, &self.offsets).unwrap(),
                ids: Ragged::new(&self.ids, &self.offsets).unwrap(),
                changed: Ragged::new(&self.changed, &self.offsets).unwrap(),
            },
            rejected: ScoredSide {
                scores: Ragged::new(&self.other_scores, &self.other_offsets).unwrap(),
                ids: Ragged::new(&self.other_ids, &self.other_offsets).unwrap(),
                changed: Ragged::new(&self.other_changed, &self.other_offsets).unwrap(),
            },
        }
    }

    pub(super) fn rollouts(&self) -> Rollouts<'_> {
        Rollouts {
            scores: Ragged::new(&self.scores, &self.offsets).unwrap(),
            ids: Ragged::new(&self.ids, &self.offsets).unwrap(),
            prompt_ids: Ragged::new(&self.prompt_ids, &self.prompt_offsets).unwrap(),
            prompts: self.prompts.batch(),
            responses: self.responses.batch(),
            ended: &self.ended,
        }
    }

    pub(super) fn trajectories(&self) -> Trajectories<'_> {
        Trajectories {
            rewards: Ragged::new(&self.scores, &self.offsets).unwrap(),
            values: Some(Ragged::new(&self.values, &self.offsets).unwrap()),
            groups: &self.groups,
        }
    }

    pub(super) fn requests(&self) -> EditRequests<'_> {
        EditRequests {
            ids: self.names.batch(),
            prompts: self.prompts.batch(),
            responses: self.responses.batch(),
        }
    }

    pub(super) fn comparisons(&self) -> Comparisons<'_> {
        Comparisons {
            ids: self.names.batch(),
            prompts: self.prompts.batch(),
            a: self.responses.batch(),
            b: self.others.batch(),
        }
    }
}
