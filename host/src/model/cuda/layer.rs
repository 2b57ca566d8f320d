//! A layer's steps on a GPU, for a whole batch.

use std::sync::Arc;

use super::network::Projection;
use super::rows::DeviceRows;
use crate::device::{Gpu, Real, View, ViewMut};
use crate::error::Result;
use crate::model::block::{BackBackend, Backend, Base, Given};
use crate::ops::attention::{self, Scoring, Sizes};
use crate::ops::cuda::{Move, move_rows};
use crate::ops::gated::{self, Activation};
use crate::ops::pointwise;
use crate::ops::rms_norm::{self, Norm, Rows};
use crate::ops::rope::cuda::DeviceTable;
use crate::ops::rope::{self, Direction};

/// The GPU at one layer of a batch.
pub(super) struct OnGpu<'a> {
    pub(super) gpu: &'a Arc<Gpu>,
    pub(super) sizes: Sizes,
    pub(super) rotations: &'a [DeviceTable],
    pub(super) tokens: Seen<'a>,
}

/// The tokens of a batch as a layer sees them.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) rows: &'a DeviceRows,
    /// Whether it is the last layer, where only the tokens that are read ask.
    pub(super) last: bool,
}

impl<'a> Seen<'a> {
    /// Whether some tokens do not ask.
    pub(super) fn pruned(self) -> bool {
        self.last && self.rows.pruned
    }

    /// Where in their rows the tokens that ask stand, (m,).
    fn asking_positions(self) -> View<'a, i32> {
        if self.last {
            self.rows.read_positions()
        } else {
            self.rows.positions()
        }
    }
}

/// Puts what a result is added to into its place; says whether there is something to add to.
pub(super) fn begin(
    gpu: &Gpu,
    base: Base<View<'_, Real>>,
    out: &mut ViewMut<'_, Real>,
) -> Result<bool> {
    match base {
        Base::Zero => Ok(false),
        Base::Result => Ok(true),
        Base::Of(values) => {
            out.copy_from(gpu, values)?;
            Ok(true)
        }
    }
}

/// The steps that do not ask where tokens stand, which training and sampling have in common.
macro_rules! plain_steps {
    () => {
        type View<'a> = View<'a, Real>;
        type ViewMut<'a> = ViewMut<'a, Real>;
        type Sums<'a> = ViewMut<'a, f32>;
        type Map = Projection<'w>;
        type Weight = View<'w, Real>;

        fn shorter<'a, 'b: 'a>(values: Self::View<'b>) -> Self::View<'a> {
            values
        }

        fn read<'a>(values: &'a ViewMut<'_, Real>) -> View<'a, Real> {
            values.as_view()
        }

        fn again<'a>(values: &'a mut ViewMut<'_, Real>) -> ViewMut<'a, Real> {
            values.again()
        }

        fn first<'a>(values: &'a mut ViewMut<'_, Real>, len: usize) -> ViewMut<'a, Real> {
            values.again().into_part(0..len)
        }

        fn head(values: Self::View<'_>, len: usize) -> Self::View<'_> {
            values.part(0..len)
        }

        fn len(values: View<'_, Real>) -> usize {
            values.len()
        }

        fn norm(
            &mut self,
            x: View<'_, Real>,
            weight: &View<'w, Real>,
            norm: Norm,
            out: ViewMut<'_, Real>,
        ) -> Result<()> {
            rms_norm::cuda::forward(self.gpu, x, *weight, norm, out)
        }

        fn norm_heads(
            &mut self,
            x: View<'_, Real>,
            weight: &View<'w, Real>,
            norm: Norm,
            rows: Rows,
            out: ViewMut<'_, Real>,
        ) -> Result<()> {
            rms_norm::cuda::forward_strided(self.gpu, x, *weight, norm, rows, out)
        }

        fn map(
            &mut self,
            map: &Projection<'w>,
            x: View<'_, Real>,
            base: Base<View<'_, Real>>,
            mut out: ViewMut<'_, Real>,
            low: ViewMut<'_, Real>,
        ) -> Result<()> {
            let add = begin(self.gpu, base, &mut out)?;
            map.forward(self.gpu, x, out, add, low)
        }

        fn copy(&mut self, x: View<'_, Real>, mut out: ViewMut<'_, Real>) -> Result<()> {
            out.copy_from(self.gpu, x)
        }

        fn add_scaled(
            &mut self,
            base: Base<View<'_, Real>>,
            x: View<'_, Real>,
            scale: f64,
            mut out: ViewMut<'_, Real>,
        ) -> Result<()> {
            match base {
                Base::Of(base) => pointwise::cuda::add_scaled(self.gpu, base, x, scale, out),
                Base::Result => pointwise::cuda::accumulate(self.gpu, x, scale, out),
                Base::Zero => {
                    out.copy_from(self.gpu, x)?;
                    pointwise::cuda::scale(self.gpu, out, scale)
                }
            }
        }

        fn gate(
            &mut self,
            activation: Activation,
            gate_up: View<'_, Real>,
            width: usize,
            out: ViewMut<'_, Real>,
        ) -> Result<()> {
            gated::cuda::forward(self.gpu, activation, gate_up, width, out)
        }
    };
}
pub(super) use plain_steps;

impl<'w> Backend for OnGpu<'w> {
    plain_steps!();

    fn pruned(&self) -> bool {
        self.tokens.pruned()
    }

    fn choose(&mut self, x: View<'_, Real>, width: usize, out: ViewMut<'_, Real>) -> Result<()> {
        let asking = self.tokens.rows.chosen();
        move_rows(self.gpu, Move::Choose, x, asking, out, width)
    }

    fn rotate(
        &mut self,
        query: ViewMut<'_, Real>,
        key_value: ViewMut<'_, Real>,
        rotation: usize,
        direction: Direction,
    ) -> Result<()> {
        let (gpu, table, sizes) = (self.gpu, &self.rotations[rotation], self.sizes);
        let (rows, asking) = (self.tokens.rows, self.tokens.asking_positions());
        let wide = (sizes.query_width(), sizes.heads);
        rope::cuda::turn(gpu, query, wide, asking, table, direction)?;
        let narrow = (sizes.key_value_width(), sizes.kv_heads);
        rope::cuda::turn(gpu, key_value, narrow, rows.positions(), table, direction)
    }

    fn attend(
        &mut self,
        query: View<'_, Real>,
        key_value: View<'_, Real>,
        scoring: Scoring,
        out: ViewMut<'_, Real>,
        log_sums: ViewMut<'_, f32>,
    ) -> Result<()> {
        attention::cuda::forward(
            self.gpu,
            (query, key_value),
            self.tokens.rows.spans(self.tokens.last),
            (self.sizes, scoring),
            out,
            log_sums,
        )
    }
}

impl<'w> BackBackend for OnGpu<'w> {
    fn map_back(
        &mut self,
        map: &Projection<'w>,
        grad: View<'_, Real>,
        base: Base<View<'_, Real>>,
        mut dx: ViewMut<'_, Real>,
        lows: &mut [[ViewMut<'_, Real>; 2]],
    ) -> Result<()> {
        let add = begin(self.gpu, base, &mut dx)?;
        map.backward(self.gpu, grad, dx, add, lows)
    }

    fn lows(
        &mut self,
        map: &Projection<'w>,
        x: View<'_, Real>,
        lows: &mut [[ViewMut<'_, Real>; 2]],
    ) -> Result<()> {
        map.lows(self.gpu, x, lows)
    }

    fn norm_back(
        &mut self,
        (x, weight, norm): (View<'_, Real>, &View<'w, Real>, Norm),
        grad: View<'_, Real>,
        base: Base<View<'_, Real>>,
        mut dx: ViewMut<'_, Real>,
        sums: Option<ViewMut<'_, f32>>,
    ) -> Result<()> {
        if !begin(self.gpu, base, &mut dx)? {
            dx.clear(self.gpu)?;
        }
        rms_norm::cuda::backward(self.gpu, (x, *weight), norm, grad, dx, sums)
    }

    fn norm_heads_back(
        &mut self,
        (x, weight, norm): (View<'_, Real>, &View<'w, Real>, Norm),
        rows: Rows,
        grad: ViewMut<'_, Real>,
        sums: Option<ViewMut<'_, f32>>,
    ) -> Result<()> {
        rms_norm::cuda::backward_strided(self.gpu, (x, *weight), norm, rows, grad, sums)
    }

    fn scatter_add(
        &mut self,
        x: View<'_, Real>,
        width: usize,
        out: ViewMut<'_, Real>,
    ) -> Result<()> {
        let asking = self.tokens.rows.chosen();
        move_rows(self.gpu, Move::ScatterAdd, x, asking, out, width)
    }

    fn clear(&mut self, mut values: ViewMut<'_, Real>) -> Result<()> {
        values.clear(self.gpu)
    }

    fn attend_back(
        &mut self,
        given: Given<View<'_, Real>>,
        log_sums: ViewMut<'_, f32>,
        scoring: Scoring,
        d_query: ViewMut<'_, Real>,
        d_key_value: ViewMut<'_, Real>,
    ) -> Result<()> {
        let given = attention::cuda::Given {
            query: given.query,
            key_value: given.key_value,
            out: given.out,
            log_sums: log_sums.as_view(),
            grad: given.grad,
        };
        let spans = self.tokens.rows.spans(self.tokens.last);
        let how = (self.sizes, scoring);
        attention::cuda::backward(self.gpu, given, spans, how, d_query, d_key_value)
    }

    fn gate_back(
        &mut self,
        activation: Activation,
        gate_up: ViewMut<'_, Real>,
        width: usize,
        grad: ViewMut<'_, Real>,
    ) -> Result<()> {
        gated::cuda::backward(self.gpu, activation, gate_up, width, grad)
    }
}
