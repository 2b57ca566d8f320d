//! The steps of a layer that do not ask where tokens stand, on slices: training and sampling on the CPU have them in common.

use crate::ops::Element;
use crate::ops::attention::Sizes;
use crate::ops::rope::{self, Direction, Table};

/// Turns queries (m, H·D) and the keys of (n, 2·K·D), each with the positions of its tokens.
pub(in crate::model) fn turn<T: Element>(
    sizes: Sizes,
    table: &Table,
    (query, asking): (&mut [T], &[u32]),
    (key_value, positions): (&mut [T], &[u32]),
    direction: Direction,
) {
    let (wide, heads) = (sizes.query_width(), (sizes.heads, sizes.size));
    rope::turn(query, wide, heads, asking, table, direction);
    let (narrow, heads) = (sizes.key_value_width(), (sizes.kv_heads, sizes.size));
    rope::turn(key_value, narrow, heads, positions, table, direction);
}

/// Types, views and plain steps of a [`super::Backend`] over slices of `$element`.
macro_rules! steps_on_slices {
    ($element:ty) => {
        type View<'a> = &'a [$element];
        type ViewMut<'a> = &'a mut [$element];
        type Sums<'a> = &'a mut [$element];

        fn shorter<'a, 'b: 'a>(values: Self::View<'b>) -> Self::View<'a> {
            values
        }

        fn read<'a>(values: &'a &mut [$element]) -> &'a [$element] {
            values
        }

        #[expect(
            clippy::mut_mut,
            reason = "a view that is lent on is itself such a reference"
        )]
        fn again<'a>(values: &'a mut &mut [$element]) -> &'a mut [$element] {
            values
        }

        #[expect(
            clippy::mut_mut,
            reason = "a view that is lent on is itself such a reference"
        )]
        fn first<'a>(values: &'a mut &mut [$element], len: usize) -> &'a mut [$element] {
            &mut values[..len]
        }

        fn head(values: Self::View<'_>, len: usize) -> Self::View<'_> {
            &values[..len]
        }

        fn len(values: &[$element]) -> usize {
            values.len()
        }

        fn norm(
            &mut self,
            x: &[$element],
            weight: &Self::Weight,
            norm: Norm,
            out: &mut [$element],
        ) -> Result<()> {
            rms_norm::forward(x, &weight[..], norm, out);
            Ok(())
        }

        fn norm_heads(
            &mut self,
            x: &[$element],
            weight: &Self::Weight,
            norm: Norm,
            rows: Rows,
            out: &mut [$element],
        ) -> Result<()> {
            rms_norm::forward_strided(x, &weight[..], norm, rows, out);
            Ok(())
        }

        fn copy(&mut self, x: &[$element], out: &mut [$element]) -> Result<()> {
            out.copy_from_slice(x);
            Ok(())
        }

        fn add_scaled(
            &mut self,
            base: Base<&[$element]>,
            x: &[$element],
            scale: f64,
            out: &mut [$element],
        ) -> Result<()> {
            match base {
                Base::Of(base) => pointwise::add_scaled(base, x, scale, out),
                Base::Result => pointwise::accumulate(x, scale, out),
                Base::Zero => {
                    out.copy_from_slice(x);
                    pointwise::scale(out, scale);
                }
            }
            Ok(())
        }

        fn gate(
            &mut self,
            activation: Activation,
            gate_up: &[$element],
            width: usize,
            out: &mut [$element],
        ) -> Result<()> {
            gated::forward(activation, gate_up, width, out);
            Ok(())
        }
    };
}
pub(in crate::model) use steps_on_slices;
