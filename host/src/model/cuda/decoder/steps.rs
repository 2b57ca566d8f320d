//! A layer's steps of sampling on a GPU: the newest token of every row, and its cache behind attention.

use std::sync::Arc;

use super::cache::Cache;
use crate::device::{Gpu, Real, View, ViewMut};
use crate::error::Result;
use crate::model::block::{Backend, Base};
use crate::model::cuda::layer::{begin, plain_steps};
use crate::model::cuda::network::Projection;
use crate::ops::attention::{self, Scoring, Sizes};
use crate::ops::gated::{self, Activation};
use crate::ops::pointwise;
use crate::ops::rms_norm::{self, Norm, Rows};
use crate::ops::rope::Direction;
use crate::ops::rope::cuda::DeviceTable;

/// The GPU at one layer of a step.
pub(super) struct Decoding<'w, 'c> {
    pub(super) gpu: &'w Arc<Gpu>,
    pub(super) sizes: Sizes,
    pub(super) rotations: &'w [DeviceTable],
    pub(super) layer: usize,
    pub(super) cache: &'c mut Cache,
    /// Slots of the rows, (R,), and where the newest token of every slot stands.
    pub(super) active: View<'c, i32>,
    pub(super) positions: View<'c, i32>,
}

impl<'w> Backend for Decoding<'w, '_> {
    plain_steps!();

    fn pruned(&self) -> bool {
        false
    }

    /// All rows ask.
    fn choose(&mut self, x: View<'_, Real>, _: usize, out: ViewMut<'_, Real>) -> Result<()> {
        self.copy(x, out)
    }

    /// Stores the turned keys, and the values, in the same launch.
    fn rotate(
        &mut self,
        query: ViewMut<'_, Real>,
        key_value: ViewMut<'_, Real>,
        rotation: usize,
        _: Direction,
    ) -> Result<()> {
        let (table, sizes) = (&self.rotations[rotation], self.sizes);
        let made = (query, key_value.as_view());
        let places = (self.active, self.positions);
        self.cache.extend(sizes, self.layer, made, table, places)
    }

    fn attend(
        &mut self,
        query: View<'_, Real>,
        _: View<'_, Real>,
        scoring: Scoring,
        out: ViewMut<'_, Real>,
        _: ViewMut<'_, f32>,
    ) -> Result<()> {
        let (active, positions) = (self.active, self.positions);
        let cached = self.cache.layer(self.sizes, self.layer, active, positions);
        attention::cuda::decode(self.gpu, query, cached, (self.sizes, scoring), out)
    }
}
