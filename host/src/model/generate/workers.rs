//! Sampling on the processor.
//!
//! Each thread keeps a number of rows going: a step feeds the next token of every row that is being answered and as many prompt
//! tokens of new rows as fit, and a row that ends makes room for the next one. A row's tokens depend on its prompt, the weights
//! and its own random stream alone, to the bit; not on the batch, the threads or their timing.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use finegrain_sdk::rng::{ChaCha8Rng, Stream};
use rand::RngExt as _;
use rayon::prelude::*;

use super::Generated;
use crate::error::{Error, Result};
use crate::model::decoder::{Entry, HostDecoder, Scratch};
use crate::model::kv_cache::KvCache;
use crate::model::sampler::{Drawn, Sampler};
use crate::model::sampling::Sampling;

/// Rows that a thread keeps going at most: enough that a product's weights are read once for many rows.
const MAX_SLOTS: usize = 32;

/// Tokens that one step feeds at most, which bounds its buffers; above `MAX_SLOTS`, so that prompts always move on.
const STEP_TOKENS: usize = 128;

/// Weights above this many bytes leave the caches of a core: threads then share each product of one group of rows
/// instead of reading all weights once each for rows of their own.
const SHARED_BYTES: usize = 32 << 20;

/// A response to each prompt, by workers that keep rows of their own going or share each product.
pub(super) fn on_host(
    decoder: &HostDecoder,
    prompts: &[Vec<u32>],
    (sampling, eos): (&Sampling, &[u32]),
    stream: &Stream,
    cancel: &AtomicBool,
) -> Result<Vec<Generated>> {
    let workers = if decoder.bytes() > SHARED_BYTES {
        1
    } else {
        rayon::current_num_threads()
    };
    let workers = workers.min(prompts.len());
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let work = Work {
        decoder,
        prompts,
        sampling,
        eos,
        stream,
        cancel,
        next: AtomicUsize::new(0),
        slots: prompts.len().div_ceil(workers).min(MAX_SLOTS),
        room: longest + sampling.max_new_tokens,
    };
    let parts: Vec<Vec<(usize, Generated)>> = (0..workers)
        .into_par_iter()
        .map(|_| work.run())
        .collect::<Result<_>>()?;
    let mut rows = vec![Generated::default(); prompts.len()];
    for (row, generated) in parts.into_iter().flatten() {
        rows[row] = generated;
    }
    Ok(rows)
}

/// What the workers of one call share.
struct Work<'a> {
    decoder: &'a HostDecoder,
    prompts: &'a [Vec<u32>],
    sampling: &'a Sampling,
    eos: &'a [u32],
    stream: &'a Stream,
    cancel: &'a AtomicBool,
    /// The next prompt that nobody has taken.
    next: AtomicUsize,
    /// Rows that a worker keeps going.
    slots: usize,
    /// Tokens of the longest row.
    room: usize,
}

/// A row that is being answered.
struct Row<'a> {
    index: usize,
    prompt: &'a [u32],
    /// How many of its tokens the cache has.
    fed: usize,
    rng: ChaCha8Rng,
    out: Generated,
    done: bool,
}

impl Row<'_> {
    fn tokens(&self) -> usize {
        self.prompt.len() + self.out.ids.len()
    }

    fn token(&self, position: usize) -> u32 {
        match self.prompt.get(position) {
            Some(id) => *id,
            None => self.out.ids[position - self.prompt.len()],
        }
    }
}

impl<'a> Work<'a> {
    /// One worker: answers prompts until none is left.
    fn run(&self) -> Result<Vec<(usize, Generated)>> {
        let mut finished = Vec::new();
        let mut rows: Vec<Row<'a>> = Vec::new();
        // The cache of the row in the same place, and behind them those that wait for another row.
        let mut caches: Vec<KvCache> = Vec::new();
        let mut entries = Vec::new();
        let mut sampler = Sampler::default();
        let mut scratch = Scratch::default();
        loop {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Error::interrupted());
            }
            while rows.len() < self.slots
                && let Some(row) = self.take()
            {
                rows.push(row);
                if caches.len() < rows.len() {
                    caches.push(self.decoder.cache(self.room));
                }
            }
            if rows.is_empty() {
                return Ok(finished);
            }
            // The last entries of the rows that are fed to their end and get a token in this step.
            let ready = Self::fill(&mut rows, &mut entries);
            let decoder = self.decoder;
            decoder.forward(&entries, &ready, &mut caches, &mut scratch)?;
            for (&entry, logits) in ready.iter().zip(decoder.logits(&mut scratch)) {
                self.extend(&mut rows[entries[entry].slot], logits, &mut sampler)?;
            }
            for slot in (0..rows.len()).rev() {
                if rows[slot].done {
                    // The last row takes the place, and its cache with it.
                    caches.swap(slot, rows.len() - 1);
                    let row = rows.swap_remove(slot);
                    finished.push((row.index, row.out));
                }
            }
        }
    }

    fn take(&self) -> Option<Row<'a>> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let prompt = self.prompts.get(index)?;
        Some(Row {
            index,
            prompt,
            fed: 0,
            rng: self.stream.index(index as u64).rng(),
            out: Generated::default(),
            done: false,
        })
    }

    /// Chooses the tokens of the next step, and says which of them bring their rows to the end, in ascending order.
    fn fill(rows: &mut [Row<'_>], entries: &mut Vec<Entry>) -> Vec<usize> {
        let mut ready = Vec::with_capacity(rows.len());
        entries.clear();
        for (slot, row) in rows.iter_mut().enumerate() {
            let tokens = row.tokens();
            let end = tokens.min(row.fed + STEP_TOKENS.saturating_sub(entries.len()));
            entries.extend((row.fed..end).map(|position| Entry {
                slot,
                id: row.token(position),
                position,
            }));
            if end == tokens && end > row.fed {
                ready.push(entries.len() - 1);
            }
            row.fed = end;
        }
        ready
    }

    /// Samples the next token of a row.
    fn extend(&self, row: &mut Row<'_>, logits: &[f32], sampler: &mut Sampler) -> Result<()> {
        let Row { rng, out, .. } = row;
        let Drawn {
            id,
            logprob,
            entropy,
        } = sampler
            .sample(logits, self.sampling, || rng.random::<f64>())
            .map_err(|error| error.context(format!("row {}", row.index)))?;
        out.ids.push(id);
        out.logprobs.push(logprob);
        out.entropy.push(entropy);
        out.ended = self.eos.contains(&id);
        row.done = out.ended || out.ids.len() == self.sampling.max_new_tokens;
        Ok(())
    }
}
