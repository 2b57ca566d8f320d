//! What is known of every row while it grows, on the device: its newest token, what was drawn, and whether it has ended.
//! Legend: R rows of a step, V vocabulary.

use std::sync::Arc;

use finegrain_sdk::rng::Stream;
use rand::RngExt as _;
use rayon::prelude::*;

use crate::device::{Arg, Buffer, Gpu, Launch, Program, View};
use crate::error::{Error, Result};
use crate::model::{Generated, Sampling};
use crate::telemetry::NotFinite;

/// Threads that draw a token from V logits.
const THREADS: u32 = 1024;

/// The rows of one group, by slot.
pub(super) struct State {
    gpu: Arc<Gpu>,
    sampling: Sampling,
    /// The tokens that end a response.
    eos_ids: Vec<u32>,
    eos: Buffer<i32>,
    /// A number in [0, 1) for each token that may be drawn, (slots, `max_new_tokens`).
    uniforms: Buffer<f64>,
    /// The newest token (slots,), and where in its row it stands (places,).
    tokens: Buffer<i32>,
    positions: Buffer<i32>,
    /// How many tokens have been drawn, and whether there will be no more, (slots,).
    lengths: Buffer<i32>,
    done: Buffer<i32>,
    /// (slots, `max_new_tokens`).
    out_ids: Buffer<i32>,
    out_logprobs: Buffer<f32>,
    /// 2³¹ − 1 − s for the first slot s whose logits were not finite, or 0.
    invalid: Buffer<i32>,
    /// The slots of the rows of a step; the first `rows` count.
    active: Buffer<i32>,
    rows: usize,
    slots: usize,
}

impl State {
    /// The state behind prompts none of whose responses has begun; row i of the call is slot i − `first`. The cache has room
    /// for `places` rows, which may be more.
    pub(super) fn new(
        gpu: &Arc<Gpu>,
        prompts: &[Vec<u32>],
        (sampling, eos): (&Sampling, &[u32]),
        stream: &Stream,
        (first, places): (usize, usize),
    ) -> Result<Self> {
        let (slots, most) = (prompts.len(), sampling.max_new_tokens);
        let draws = if sampling.temperature == 0.0 { 0 } else { most };
        let uniforms: Vec<f64> = (0..slots)
            .into_par_iter()
            .flat_map_iter(|slot| {
                let mut rng = stream.index((first + slot) as u64).rng();
                (0..draws).map(move |_| rng.random::<f64>())
            })
            .collect();
        let eos_on_device: Vec<i32> = eos.iter().map(|&id| id as i32).collect();
        let mut newest: Vec<i32> = prompts
            .iter()
            .map(|prompt| prompt.len() as i32 - 1)
            .collect();
        newest.resize(places, 0);
        Ok(Self {
            sampling: sampling.clone(),
            eos_ids: eos.to_vec(),
            eos: Buffer::upload(gpu, &eos_on_device)?,
            uniforms: Buffer::upload(gpu, &uniforms)?,
            tokens: gpu.zeros(slots)?,
            positions: Buffer::upload(gpu, &newest)?,
            lengths: gpu.zeros(slots)?,
            done: gpu.zeros(slots)?,
            out_ids: gpu.zeros(slots * most)?,
            out_logprobs: gpu.zeros(slots * most)?,
            invalid: gpu.zeros(1)?,
            active: Buffer::new(gpu, slots)?,
            rows: 0,
            gpu: gpu.clone(),
            slots,
        })
    }

    /// Says which slots make a step.
    pub(super) fn set_active(&mut self, slots: &[i32]) -> Result<()> {
        self.rows = slots.len();
        self.active.part_mut(0..slots.len()).fill(&self.gpu, slots)
    }

    /// The slots of the rows of a step, (R,).
    pub(super) fn active(&self) -> View<'_, i32> {
        self.active.part(0..self.rows)
    }

    /// Where each slot's newest token stands, (slots,).
    pub(super) fn positions(&self) -> View<'_, i32> {
        self.positions.view()
    }

    /// Copies the newest tokens of the rows of a step into `ids` (R,); the kernel is one of those for heads of `size`.
    pub(super) fn newest(&self, ids: &mut Buffer<i32>, size: usize) -> Result<()> {
        let mut ids = ids.part_mut(0..self.rows);
        let args = [
            self.tokens.view().into(),
            self.active().into(),
            Arg::from(&mut ids),
            self.rows.into(),
        ];
        let launch = Launch::flat(self.rows);
        self.gpu
            .launch(Program::Heads(size), "gather_tokens", launch, &args)
    }

    /// Draws the next token of every row of a step from logits (R, V).
    pub(super) fn draw(&mut self, logits: View<'_, f32>) -> Result<()> {
        let vocabulary = logits.len() / self.rows;
        assert_eq!(logits.len(), self.rows * vocabulary);
        let sampling = &self.sampling;
        let active = self.active.part(0..self.rows);
        let args = [
            logits.into(),
            active.into(),
            self.uniforms.view().into(),
            Arg::from(&mut self.tokens.view_mut()),
            Arg::from(&mut self.positions.view_mut()),
            Arg::from(&mut self.lengths.view_mut()),
            Arg::from(&mut self.done.view_mut()),
            Arg::from(&mut self.out_ids.view_mut()),
            Arg::from(&mut self.out_logprobs.view_mut()),
            self.eos.view().into(),
            self.eos.len().into(),
            sampling.max_new_tokens.into(),
            vocabulary.into(),
            (sampling.temperature as f32).into(),
            sampling.top_k.min(vocabulary).into(),
            (sampling.top_p as f32).into(),
            Arg::from(&mut self.invalid.view_mut()),
        ];
        let launch = Launch::new(self.rows, THREADS);
        self.gpu.launch(Program::Common, "sample", launch, &args)
    }

    /// The slots whose rows have not ended, after all that was queued.
    pub(super) fn going(&self) -> Result<Vec<i32>> {
        let done = self.done.download()?;
        let slots = done.iter().zip(0..);
        Ok(slots
            .filter_map(|(&done, slot)| (done == 0).then_some(slot))
            .collect())
    }

    /// The slot whose logits were not finite, where there was one.
    pub(super) fn invalid(&self) -> Result<Option<usize>> {
        let found = self.invalid.download()?[0];
        Ok((found > 0).then(|| (i32::MAX - found) as usize))
    }

    /// Refuses logits that were not finite.
    pub(super) fn check(&self) -> Result<()> {
        match self.invalid()? {
            None => Ok(()),
            Some(_) => Err(Error::input("the model's logits are not finite")
                .hint(
                    "its weights have diverged; lower the learning rate of the training that made them",
                )
                .with_not_finite(NotFinite::batch("the logits", &[]))),
        }
    }

    /// What was drawn, by slot.
    pub(super) fn responses(&self) -> Result<Vec<Generated>> {
        let most = self.sampling.max_new_tokens;
        let lengths = self.lengths.download()?;
        let ids = self.out_ids.download()?;
        let logprobs = self.out_logprobs.download()?;
        let response = |slot: usize| {
            let drawn = slot * most..slot * most + lengths[slot] as usize;
            let ids: Vec<u32> = ids[drawn.clone()].iter().map(|&id| id as u32).collect();
            Generated {
                entropy: Vec::new(),
                ended: ids.last().is_some_and(|id| self.eos_ids.contains(id)),
                ids,
                logprobs: logprobs[drawn].to_vec(),
            }
        };
        Ok((0..self.slots).map(response).collect())
    }
}
