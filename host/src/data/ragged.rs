//! Owned ragged batches of the host. Legend: B rows, N tokens of the whole batch, M response tokens of the whole batch.
//!
//! Prompt and response are one row of ids. Response token t of a row lies at position p; the hidden state **at** p scores
//! the token (reward model), the hidden state at p − 1 **predicts** it (log-probability, value).

use finegrain_sdk::Ragged;

use crate::error::{Error, Result};

/// An owned ragged batch: flat values and rows + 1 offsets.
#[derive(Clone, Debug, PartialEq)]
pub struct RaggedVec<T> {
    values: Vec<T>,
    offsets: Vec<u64>,
}

impl<T> Default for RaggedVec<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            offsets: vec![0],
        }
    }
}

impl<T> RaggedVec<T> {
    /// A batch of no rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// A batch from its parts.
    ///
    /// # Errors
    /// Offsets that break the layout.
    pub fn from_parts(values: Vec<T>, offsets: Vec<u64>) -> Result<Self> {
        Ragged::new(&values, &offsets).map_err(|error| Error::internal(error.to_string()))?;
        Ok(Self { values, offsets })
    }

    /// Appends a row.
    pub fn push(&mut self, row: impl IntoIterator<Item = T>) {
        self.values.extend(row);
        self.offsets.push(self.values.len() as u64);
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Row `i`. Panics where `i` is not below [`RaggedVec::rows`].
    pub fn row(&self, i: usize) -> &[T] {
        &self.values[self.offsets[i] as usize..self.offsets[i + 1] as usize]
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = &[T]> {
        (0..self.rows()).map(|i| self.row(i))
    }

    /// All values, row after row.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// The offsets, rows + 1 of them.
    pub fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    /// The borrowed form that plugins take.
    pub fn view(&self) -> Ragged<'_, T> {
        Ragged::new(&self.values, &self.offsets)
            .expect("invariant: offsets are checked when they are made")
    }
}

impl<T, R: IntoIterator<Item = T>> FromIterator<R> for RaggedVec<T> {
    fn from_iter<I: IntoIterator<Item = R>>(rows: I) -> Self {
        let mut batch = Self::new();
        rows.into_iter().for_each(|row| batch.push(row));
        batch
    }
}

/// Texts as the SDK's `TextBatch` wants them: bytes one after the other, and offsets.
#[derive(Clone, Debug, Default)]
pub struct TextVec(RaggedVec<u8>);

impl TextVec {
    /// The borrowed form that plugins take.
    pub fn view(&self) -> finegrain_sdk::TextBatch<'_> {
        finegrain_sdk::TextBatch::new(self.0.values(), self.0.offsets())
            .expect("invariant: every row was a str")
    }
}

impl<S: AsRef<str>> FromIterator<S> for TextVec {
    fn from_iter<I: IntoIterator<Item = S>>(texts: I) -> Self {
        let mut batch = RaggedVec::new();
        texts
            .into_iter()
            .for_each(|text| batch.push(text.as_ref().bytes()));
        Self(batch)
    }
}

/// Prompts and responses of a batch as token ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenBatch {
    rows: RaggedVec<u32>,
    prompt_lens: Vec<usize>,
}

impl TokenBatch {
    /// A batch of no rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a row. A prompt has at least one token (BOS counts): something must predict the first response token.
    pub fn push(&mut self, prompt: &[u32], response: &[u32]) {
        assert!(
            !prompt.is_empty(),
            "invariant: a prompt has at least one token"
        );
        self.rows.push(prompt.iter().chain(response).copied());
        self.prompt_lens.push(prompt.len());
    }

    /// B: how many rows.
    pub fn rows(&self) -> usize {
        self.prompt_lens.len()
    }

    /// N: how many tokens.
    pub fn tokens(&self) -> usize {
        self.rows.values().len()
    }

    /// All ids, (N,).
    pub fn ids(&self) -> &[u32] {
        self.rows.values()
    }

    /// Row offsets into [`TokenBatch::ids`], (B + 1,).
    pub fn offsets(&self) -> &[u64] {
        self.rows.offsets()
    }

    /// How many tokens of row `i` are the prompt's.
    pub fn prompt_len(&self, i: usize) -> usize {
        self.prompt_lens[i]
    }

    /// The prompt of row `i`.
    pub fn prompt(&self, i: usize) -> &[u32] {
        &self.rows.row(i)[..self.prompt_lens[i]]
    }

    /// The response of row `i`.
    pub fn response(&self, i: usize) -> &[u32] {
        &self.rows.row(i)[self.prompt_lens[i]..]
    }

    /// All response ids with their own offsets, M tokens in all.
    pub fn responses(&self) -> RaggedVec<u32> {
        (0..self.rows())
            .map(|i| self.response(i).iter().copied())
            .collect()
    }

    /// All prompt ids with their own offsets.
    pub fn prompts(&self) -> RaggedVec<u32> {
        (0..self.rows())
            .map(|i| self.prompt(i).iter().copied())
            .collect()
    }

    /// Where in (N,) each response token lies, (M,): the positions whose hidden state scores it.
    pub fn response_positions(&self) -> Vec<u32> {
        (0..self.rows())
            .flat_map(|i| {
                let end = self.offsets()[i + 1] as u32;
                (self.offsets()[i] as u32 + self.prompt_lens[i] as u32)..end
            })
            .collect()
    }

    /// The positions one before the response tokens, (M,): the hidden state there predicts the token.
    pub fn prediction_positions(&self) -> Vec<u32> {
        self.response_positions()
            .into_iter()
            .map(|position| position - 1)
            .collect()
    }
}
