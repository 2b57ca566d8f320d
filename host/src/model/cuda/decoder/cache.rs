//! Keys and values of many growing rows on a GPU.
//! Legend: L layers, K key/value heads, D head size.

use crate::data::ragged::TokenBatch;
use crate::device::{Arg, Buffer, Launch, Program, Real, View, ViewMut};
use crate::error::Result;
use crate::model::cuda::network::Network;
use crate::model::cuda::pass::forward_through;
use crate::model::{CausalLmConfig, Read};
use crate::ops::attention::Sizes;
use crate::ops::attention::cuda::Cached;
use crate::ops::cuda::{THREADS, WARPS};
use crate::ops::rope::cuda::DeviceTable;

/// Tokens of prompts that go through together: enough to fill the GPU, and few enough for their activations.
const PROMPT_TOKENS: usize = 1 << 14;

/// Keys and values of all layers, (L, slots, room, K·D) each.
pub(super) struct Cache {
    keys: Buffer<Real>,
    values: Buffer<Real>,
    slots: usize,
    room: usize,
}

impl Cache {
    /// Bytes that a row of at most `room` tokens takes.
    pub(super) fn bytes_of_a_slot(network: &Network<'_>, room: usize) -> usize {
        let wide = network.dimensions.attention.key_value_width();
        network.layers.len() * room * wide * network.gpu.dtype().size()
    }

    pub(super) fn new(network: &Network<'_>, slots: usize, room: usize) -> Result<Self> {
        let width = network.dimensions.attention.key_value_width() / 2;
        let len = network.layers.len() * slots * room * width;
        Ok(Self {
            keys: Buffer::new(&network.gpu, len)?,
            values: Buffer::new(&network.gpu, len)?,
            slots,
            room,
        })
    }

    /// Takes prompts through the model, the prompt in place i into slot i; `sample` gets the hidden states of their last
    /// tokens, (rows, C), and their slots.
    pub(super) fn fill(
        &mut self,
        network: &Network<'_>,
        config: &CausalLmConfig,
        prompts: &[Vec<u32>],
        mut sample: impl FnMut(View<'_, Real>, &[i32]) -> Result<()>,
    ) -> Result<()> {
        let mut start = 0;
        while start < prompts.len() {
            let mut batch = TokenBatch::new();
            let (mut slots, mut rows) = (Vec::new(), Vec::new());
            let mut end = start;
            while end < prompts.len()
                && (end == start || slots.len() + prompts[end].len() <= PROMPT_TOKENS)
            {
                // A response of one token: what predicts it is read, and it does not go through itself.
                batch.push(&prompts[end], &prompts[end][..1]);
                slots.extend(std::iter::repeat_n(end as i32, prompts[end].len()));
                rows.push(end as i32);
                end += 1;
            }
            let slots = Buffer::upload(&network.gpu, &slots)?;
            let batch = (&batch, Read::Predicting, config);
            let hidden = forward_through(network, batch, |layer, positions, made| {
                self.store(network, layer, made, slots.view(), positions)
            })?;
            sample(hidden.view(), &rows)?;
            start = end;
        }
        Ok(())
    }

    /// Stores the rotated keys and the values of a layer, (n, 2·K·D), of tokens at `positions` of `slots`.
    fn store(
        &mut self,
        network: &Network<'_>,
        layer: usize,
        key_value: View<'_, Real>,
        slots: View<'_, i32>,
        positions: View<'_, i32>,
    ) -> Result<()> {
        let sizes = network.dimensions.attention;
        let width = sizes.key_value_width() / 2;
        let tokens = slots.len();
        assert_eq!(
            (key_value.len(), positions.len()),
            (tokens * 2 * width, tokens)
        );
        let plane = self.slots * self.room * width;
        let mut keys = self.keys.part_mut(layer * plane..(layer + 1) * plane);
        let mut values = self.values.part_mut(layer * plane..(layer + 1) * plane);
        let args = [
            key_value.into(),
            slots.into(),
            positions.into(),
            Arg::from(&mut keys),
            Arg::from(&mut values),
            tokens.into(),
            self.room.into(),
            width.into(),
        ];
        let launch = Launch::new(tokens.div_ceil(WARPS), THREADS);
        network
            .gpu
            .launch(Program::Heads(sizes.size), "cache_store", launch, &args)
    }

    /// Turns the queries (R, H·D) of the newest tokens of all rows in place, and stores their keys, turned, and values from
    /// (R, 2·K·D).
    pub(super) fn extend(
        &mut self,
        sizes: Sizes,
        layer: usize,
        (mut query, key_value): (ViewMut<'_, Real>, View<'_, Real>),
        table: &DeviceTable,
        (active, positions): (View<'_, i32>, View<'_, i32>),
    ) -> Result<()> {
        let (rows, width) = (active.len(), sizes.key_value_width() / 2);
        assert_eq!(key_value.len(), rows * 2 * width);
        assert_eq!(query.len(), rows * sizes.query_width());
        assert_eq!(positions.len(), self.slots);
        let gpu = self.keys.gpu().clone();
        let plane = self.slots * self.room * width;
        let mut keys = self.keys.part_mut(layer * plane..(layer + 1) * plane);
        let mut values = self.values.part_mut(layer * plane..(layer + 1) * plane);
        let args = [
            Arg::from(&mut query),
            key_value.into(),
            active.into(),
            positions.into(),
            table.values.view().into(),
            Arg::from(&mut keys),
            Arg::from(&mut values),
            rows.into(),
            self.room.into(),
            sizes.heads.into(),
            sizes.kv_heads.into(),
        ];
        let launch = Launch::new(rows, 128);
        gpu.launch(Program::Heads(sizes.size), "decode_store", launch, &args)
    }

    /// A layer's part, as its attention reads it.
    pub(super) fn layer<'a>(
        &'a self,
        sizes: Sizes,
        layer: usize,
        active: View<'a, i32>,
        positions: View<'a, i32>,
    ) -> Cached<'a> {
        let width = sizes.key_value_width() / 2;
        let plane = self.slots * self.room * width;
        let part = layer * plane..(layer + 1) * plane;
        Cached {
            keys: self.keys.part(part.clone()),
            values: self.values.part(part),
            room: self.room,
            active,
            positions,
        }
    }
}
