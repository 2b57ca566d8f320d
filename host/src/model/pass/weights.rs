//! The gradients of a layer's weights over all tokens, when the activations' are done: dW = dyᵀ · x, cut by rows of W among the
//! threads. Legend: n tokens, I inputs, O outputs.

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;

use super::network::Network;
use crate::model::description::{NormPlace, Place};
use crate::ops::product::{Matrix, MatrixMut, Product, multiply};
use crate::ops::{Element, bias};

/// Rows of a weight whose gradient is one task.
const ROWS: usize = 1024;

/// A product of a layer: the gradient of its result (n, O), and its input (n, I).
pub(super) type Factor<'a, T> = (Place, &'a [T], &'a [T]);

/// A term of a weight's gradient: scale · gradᵀ · x.
#[derive(Clone, Copy)]
struct Term<'a, T> {
    /// (n, O).
    grad: Matrix<'a, T>,
    /// (n, I).
    x: Matrix<'a, T>,
    scale: T,
}

/// The terms of a layer's gradients, by where the gradients lie.
struct Terms<'a, T>(BTreeMap<usize, (usize, Vec<Term<'a, T>>)>);

impl<'a, T: Element> Terms<'a, T> {
    fn push(&mut self, range: &Range<usize>, term: Term<'a, T>) {
        let (_, terms) = self
            .0
            .entry(range.start)
            .or_insert((range.len(), Vec::new()));
        terms.push(term);
    }

    /// Adds them all.
    fn add_to(self, gradients: &mut [T]) {
        let mut tasks = Vec::new();
        let (mut rest, mut at) = (gradients, 0);
        for (start, (len, terms)) in self.0 {
            let part = rest.split_off_mut(start - at..).expect(LONG_ENOUGH);
            let (out, after) = part.split_at_mut(len);
            (rest, at) = (after, start + len);
            let inputs = terms.first().map_or(1, |term| term.x.columns());
            for (block, out) in out.chunks_mut(ROWS * inputs).enumerate() {
                tasks.push((block * ROWS, out, inputs, terms.clone()));
            }
        }
        let threads = (rayon::current_num_threads() / tasks.len().max(1)).max(1);
        let tasks = tasks.into_par_iter().with_max_len(1);
        tasks.for_each(|(first, out, inputs, terms)| {
            let rows = out.len() / inputs;
            for Term { grad, x, scale } in terms {
                let product = Product {
                    scale,
                    ..Product::add(threads)
                };
                let out = MatrixMut::new(out, rows, inputs);
                multiply(out, grad.part(first, rows).t(), x, product);
            }
        });
    }
}

const LONG_ENOUGH: &str = "invariant: the gradients of a layer are as many as its parameters";

/// Adds the gradients of a layer's own parameters: those of its products, their biases, and of its norms, whose sums every chunk
/// has left one behind the other.
pub(super) fn add_own<T: Element>(
    network: &Network<'_, T>,
    factors: &[Factor<'_, T>; 5],
    norms: &[T],
    gradients: &mut [T],
) {
    let layout = &network.layout;
    let mut terms = Terms(BTreeMap::new());
    for &(place, grad, x) in factors {
        let map = layout.map(place);
        let n = x.len() / map.inputs;
        let grad = Matrix::new(grad, n, map.outputs);
        let term = Term {
            grad,
            x: Matrix::new(x, n, map.inputs),
            scale: T::one(),
        };
        terms.push(&map.weight, term);
    }
    terms.add_to(gradients);
    for &(place, grad, _) in factors {
        if let Some(range) = &layout.map(place).bias {
            bias::sums(grad, &mut gradients[range.clone()]);
        }
    }
    let widths = norm_widths(network);
    for chunk in norms.chunks_exact(widths.iter().sum::<usize>().max(1)) {
        let mut rest = chunk;
        for (place, width) in NormPlace::ALL.into_iter().zip(widths) {
            let (sums, after) = rest.split_at(width);
            rest = after;
            let Some(range) = layout.norm(place) else {
                continue;
            };
            let out = gradients[range].iter_mut().zip(sums);
            out.for_each(|(sum, &d)| *sum += d);
        }
    }
}

/// Adds the gradients of a layer's adapter; `lows` are A · x and scale · dy · B of every slot.
pub(super) fn add_adapters<'a, T: Element>(
    network: &Network<'_, T>,
    index: usize,
    factors: &[Factor<'a, T>; 5],
    lows: &[[&'a [T]; 2]],
    gradients: &mut [T],
) {
    let Some(adapted) = &network.adapted else {
        return;
    };
    let mut terms = Terms(BTreeMap::new());
    for (place, grad, x) in factors {
        let map = network.layers[index].map(*place);
        let (outputs, inputs) = (map.weight.rows(), map.weight.columns());
        let n = x.len() / inputs;
        let (grad, x) = (Matrix::new(grad, n, outputs), Matrix::new(x, n, inputs));
        for adapter in &map.adapters {
            let [low, low_grad] = lows[adapter.slot];
            let (part, rank) = (&adapted.parts[adapter.slot], adapter.a.rows());
            let grad = grad.part(adapter.first, adapter.b.rows());
            let (low, low_grad) = (Matrix::new(low, n, rank), Matrix::new(low_grad, n, rank));
            let (one, scale) = (T::one(), adapter.scale);
            terms.push(
                &part.a,
                Term {
                    grad: low_grad,
                    x,
                    scale: one,
                },
            );
            terms.push(
                &part.b,
                Term {
                    grad,
                    x: low,
                    scale,
                },
            );
        }
    }
    terms.add_to(gradients);
}

/// Widths of a layer's norms, 0 of those it has not.
pub(super) fn norm_widths<T>(network: &Network<'_, T>) -> [usize; 6] {
    NormPlace::ALL.map(|place| network.layout.norm(place).map_or(0, |range| range.len()))
}
