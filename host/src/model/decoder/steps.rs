//! A layer's steps of generation on the CPU: packed weights, and caches behind attention.

use std::sync::Arc;

use super::Entry;
use crate::error::Result;
use crate::model::block::{Backend, Base, steps_on_slices, turn};
use crate::model::kv_cache::KvCache;
use crate::model::packed::PackedMatrix;
use crate::ops::attention::{Scoring, Sizes};
use crate::ops::gated::{self, Activation};
use crate::ops::rms_norm::{self, Norm, Rows};
use crate::ops::rope::{Direction, Table};
use crate::ops::{bias, pointwise};

/// A linear map laid out for few rows.
pub(super) struct Packed {
    pub(super) matrix: PackedMatrix,
    /// (O,).
    pub(super) bias: Option<Vec<f32>>,
}

/// The CPU at one layer of a step.
pub(super) struct Steps<'a> {
    pub(super) sizes: Sizes,
    pub(super) rotations: &'a [Arc<Table>],
    pub(super) entries: &'a [Entry],
    /// Where in its row each entry stands, (E,).
    pub(super) positions: &'a [u32],
    /// Which entries ask, in ascending order.
    pub(super) asking: &'a [usize],
    pub(super) layer: usize,
    pub(super) caches: &'a mut [KvCache],
    pub(super) sum: &'a mut Vec<f32>,
}

impl Backend for Steps<'_> {
    steps_on_slices!(f32);

    type Map = Packed;
    type Weight = Vec<f32>;

    fn pruned(&self) -> bool {
        self.asking.len() < self.entries.len()
    }

    fn map(
        &mut self,
        map: &Packed,
        x: &[f32],
        base: Base<&[f32]>,
        out: &mut [f32],
        _: &mut [f32],
    ) -> Result<()> {
        match base {
            Base::Zero => map.matrix.multiply(x, out),
            Base::Of(base) => {
                map.matrix.multiply(x, out);
                out.iter_mut().zip(base).for_each(|(sum, x)| *sum += x);
            }
            Base::Result => {
                self.sum.resize(out.len(), 0.0);
                map.matrix.multiply(x, self.sum);
                out.iter_mut()
                    .zip(&*self.sum)
                    .for_each(|(x, sum)| *x += sum);
            }
        }
        if let Some(bias) = &map.bias {
            bias::add(out, bias);
        }
        Ok(())
    }

    fn choose(&mut self, x: &[f32], width: usize, out: &mut [f32]) -> Result<()> {
        for (out, &from) in out.chunks_exact_mut(width).zip(self.asking) {
            out.copy_from_slice(&x[from * width..][..width]);
        }
        Ok(())
    }

    fn rotate(
        &mut self,
        query: &mut [f32],
        key_value: &mut [f32],
        rotation: usize,
        direction: Direction,
    ) -> Result<()> {
        let asking: Vec<u32> = self.asking.iter().map(|&at| self.positions[at]).collect();
        let (query, keys) = ((query, &asking[..]), (key_value, self.positions));
        turn(
            self.sizes,
            &self.rotations[rotation],
            query,
            keys,
            direction,
        );
        Ok(())
    }

    /// Stores all keys and values as it goes: a token sees those of its row before it and its own.
    fn attend(
        &mut self,
        query: &[f32],
        key_value: &[f32],
        scoring: Scoring,
        out: &mut [f32],
        _: &mut [f32],
    ) -> Result<()> {
        let (wide, narrow) = (self.sizes.query_width(), self.sizes.key_value_width());
        let rows = query.chunks_exact(wide).zip(out.chunks_exact_mut(wide));
        let mut asking = self.asking.iter().zip(rows).peekable();
        let entries = self.entries.iter().zip(key_value.chunks_exact(narrow));
        for (place, (entry, key_value)) in entries.enumerate() {
            let cache = &mut self.caches[entry.slot];
            let made = key_value.split_at(narrow / 2);
            cache.store(self.layer, entry.position, scoring.scale, made);
            if let Some((_, (query, out))) = asking.next_if(|(asks, _)| **asks == place) {
                cache.attend(self.layer, entry.position, scoring, query, out);
            }
        }
        Ok(())
    }
}
