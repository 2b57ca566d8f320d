//! Which tokens of a batch go through a model, at which of them its hidden states are read, and in which chunks.
//!
//! A token behind the last one that is read changes nothing that is read, so it does not go through. In the last layer
//! only the tokens that are read need more than a key and a value.

use std::ops::Range;

use crate::data::ragged::TokenBatch;
use crate::error::Result;
use crate::model::causal_lm::check_row;
use crate::model::config::CausalLmConfig;
use crate::ops::attention::Span;

/// Tokens of a chunk, unless one row has more. A constant: general products over a chunk depend in their last bits on its rows,
/// which must not follow the number of threads. 256 tokens of a small model's widest activation fit a core's cache.
const CHUNK: usize = 256;

/// At which tokens of a row the hidden states are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// At every token.
    All,
    /// At the response tokens: scores.
    Responses,
    /// One before each response token: log-probabilities and values.
    Predicting,
}

impl Read {
    /// The tokens of row `row` that are read, counted from the row's first.
    fn of(self, batch: &TokenBatch, row: usize) -> Range<usize> {
        let prompt = batch.prompt_len(row);
        let length = (batch.offsets()[row + 1] - batch.offsets()[row]) as usize;
        match self {
            Self::All => 0..length,
            Self::Responses => prompt..length,
            Self::Predicting => prompt - 1..length - 1,
        }
    }
}

/// A run of rows that one thread takes through all layers.
#[derive(Debug)]
pub(in crate::model) struct Chunk {
    /// Its tokens among those of the batch that go through.
    pub(in crate::model) tokens: Range<usize>,
    /// Its tokens that are read, among those of the batch.
    pub(in crate::model) read: Range<usize>,
    /// Its rows, with all tokens asking; counted from the chunk's first token.
    pub(in crate::model) whole: Vec<Span>,
    /// Its rows, with the tokens asking that are read.
    pub(in crate::model) spans: Vec<Span>,
}

/// A batch on its way through a model.
#[derive(Debug)]
pub(in crate::model) struct Rows {
    /// (N,), without tokens behind the last one that is read.
    pub(in crate::model) ids: Vec<u32>,
    /// Where in its row each token stands, (N,).
    pub(in crate::model) positions: Vec<u32>,
    /// The same of the tokens that are read, (M,).
    pub(in crate::model) read_positions: Vec<u32>,
    pub(in crate::model) chunks: Vec<Chunk>,
}

impl Rows {
    /// Checks a batch and cuts it into chunks.
    ///
    /// # Errors
    /// A row that the model has no positions or no embeddings for.
    pub(super) fn new(batch: &TokenBatch, read: Read, config: &CausalLmConfig) -> Result<Self> {
        let mut rows = Self {
            ids: Vec::with_capacity(batch.tokens()),
            positions: Vec::with_capacity(batch.tokens()),
            read_positions: Vec::new(),
            chunks: Vec::new(),
        };
        for (row, bounds) in batch.offsets().windows(2).enumerate() {
            let ids = &batch.ids()[bounds[0] as usize..bounds[1] as usize];
            check_row(config, row, ids, ids.len())?;
            let reading = read.of(batch, row);
            if !reading.is_empty() {
                rows.push(&ids[..reading.end], reading);
            }
        }
        Ok(rows)
    }

    fn push(&mut self, ids: &[u32], reading: Range<usize>) {
        let fits = |chunk: &&mut Chunk| chunk.tokens.len() + ids.len() <= CHUNK;
        if self.chunks.last_mut().as_ref().is_none_or(|x| !fits(x)) {
            let (token, read) = (self.ids.len(), self.read_positions.len());
            self.chunks.push(Chunk {
                tokens: token..token,
                read: read..read,
                whole: Vec::new(),
                spans: Vec::new(),
            });
        }
        let chunk = self
            .chunks
            .last_mut()
            .expect("invariant: one was pushed where none fits");
        let (tokens, read) = (chunk.tokens.len(), chunk.read.len());
        let keys = tokens..tokens + ids.len();
        chunk.whole.push(Span::whole(keys.clone()));
        chunk.spans.push(Span {
            keys,
            queries: read..read + reading.len(),
            first: reading.start,
        });
        chunk.tokens.end += ids.len();
        chunk.read.end += reading.len();
        self.ids.extend(ids);
        self.positions.extend(0..ids.len() as u32);
        self.read_positions
            .extend(reading.start as u32..reading.end as u32);
    }

    /// Tokens of the longest row.
    pub(in crate::model) fn longest(&self) -> usize {
        let positions = self.positions.iter();
        positions.max().map_or(0, |&last| last as usize + 1)
    }

    /// N.
    pub(in crate::model) fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// M.
    pub(in crate::model) fn read(&self) -> usize {
        self.read_positions.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture;

    #[test]
    fn only_what_is_read_or_stands_before_it_goes_through() -> Result<()> {
        // Rows of 3 + 3, 1 + 2 and 3 + 0 tokens.
        let batch = fixture::batch();
        let config = fixture::config(true);
        let rows = Rows::new(&batch, Read::Predicting, &config)?;
        assert_eq!(rows.ids, [1, 4, 5, 6, 7, 1, 9]);
        assert_eq!(rows.positions, [0, 1, 2, 3, 4, 0, 1]);
        assert_eq!(rows.read_positions, [2, 3, 4, 0, 1]);
        let [chunk] = &rows.chunks[..] else {
            panic!("one chunk")
        };
        assert_eq!((chunk.tokens.clone(), chunk.read.clone()), (0..7, 0..5));
        let second = Span {
            keys: 5..7,
            queries: 3..5,
            first: 0,
        };
        assert_eq!(chunk.spans[1], second);
        let rows = Rows::new(&batch, Read::Responses, &config)?;
        assert_eq!((rows.tokens(), rows.read()), (9, 5));
        let rows = Rows::new(&batch, Read::All, &config)?;
        assert_eq!((rows.tokens(), rows.read()), (12, 12));
        Ok(())
    }

    #[test]
    fn chunks_hold_whole_rows() -> Result<()> {
        let mut config = fixture::config(true);
        config.max_position_embeddings = 1000;
        let mut batch = TokenBatch::new();
        for length in [100, 100, 100, 300, 10] {
            batch.push(&[1], &vec![2; length - 1]);
        }
        let rows = Rows::new(&batch, Read::All, &config)?;
        let bounds: Vec<_> = rows.chunks.iter().map(|c| c.tokens.clone()).collect();
        assert_eq!(bounds, [0..200, 200..300, 300..600, 600..610]);
        Ok(())
    }
}
