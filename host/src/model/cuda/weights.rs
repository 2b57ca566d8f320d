//! The gradients of a layer's weights on a GPU: dW += dyᵀ · x over all tokens. Legend: n tokens, I inputs, O outputs.

use super::network::{Network, Projection};
use crate::device::{Matrix, MatrixMut, Real, View, ViewMut};
use crate::error::Result;
use crate::model::description::{NormPlace, Place};
use crate::ops::bias;

/// A product of a layer: the gradient of its result (n, O), and its input (n, I).
pub(super) type Factor<'a, 'w> = (Place, &'a Projection<'w>, View<'a, Real>, View<'a, Real>);

/// Adds the gradients of a layer's own products and biases.
pub(super) fn add_own(
    network: &Network<'_>,
    factors: &[Factor<'_, '_>; 5],
    mut gradients: ViewMut<'_, f32>,
) -> Result<()> {
    let gpu = &network.gpu;
    for (place, _, grad, x) in *factors {
        let map = network.layout.map(place);
        let (outputs, inputs) = (map.outputs, map.inputs);
        let n = x.len() / inputs;
        let out = gradients.again().into_part(map.weight.clone());
        gpu.multiply(
            MatrixMut::new(out, outputs, inputs),
            Matrix::new(grad, n, outputs).t(),
            Matrix::new(x, n, inputs),
            1.0,
            true,
        )?;
        if let Some(range) = map.bias.clone() {
            bias::cuda::sums(gpu, grad, gradients.again().into_part(range))?;
        }
    }
    Ok(())
}

/// The same for a layer's adapters: dA += lowᵀ · x with low = scale · dy · B, and dB += scale · dyᵀ · (A · x); `lows` are both
/// products of every slot.
pub(super) fn add_adapters(
    network: &Network<'_>,
    factors: &[Factor<'_, '_>; 5],
    lows: &[[View<'_, Real>; 2]],
    mut gradients: ViewMut<'_, f32>,
) -> Result<()> {
    let gpu = &network.gpu;
    for (_, map, grad, x) in *factors {
        let (outputs, inputs) = (map.weight.rows(), map.weight.columns());
        let n = x.len() / inputs;
        for adapter in &map.adapters {
            let (part, rank) = (&network.parts[adapter.slot], adapter.a.rows());
            let [low, low_grad] = lows[adapter.slot];
            let d_a = gradients.again().into_part(part.a.clone());
            gpu.multiply(
                MatrixMut::new(d_a, rank, inputs),
                Matrix::new(low_grad, n, rank).t(),
                Matrix::new(x, n, inputs),
                1.0,
                true,
            )?;
            let grad = Matrix::new(grad, n, outputs).part(adapter.first, adapter.b.rows());
            let d_b = gradients.again().into_part(part.b.clone());
            gpu.multiply(
                MatrixMut::new(d_b, adapter.b.rows(), rank),
                grad.t(),
                Matrix::new(low, n, rank),
                adapter.scale,
                true,
            )?;
        }
    }
    Ok(())
}

/// The parts of a layer's gradients that are its norms', in the order in which they lie.
pub(super) fn norms<'a>(
    network: &Network<'_>,
    gradients: ViewMut<'a, f32>,
) -> [Option<ViewMut<'a, f32>>; 6] {
    let (mut rest, mut at) = (gradients, 0);
    NormPlace::ALL.map(|place| {
        let range = network.layout.norm(place)?;
        let _between = rest.split_off(range.start - at);
        at = range.end;
        Some(rest.split_off(range.len()))
    })
}
