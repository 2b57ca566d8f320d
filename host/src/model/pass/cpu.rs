//! A layer's steps on slices, for one chunk of a batch.

use std::marker::PhantomData;
use std::sync::Arc;

use super::network::Projection;
use super::rows::Chunk;
use crate::error::Result;
use crate::model::block::{BackBackend, Backend, Base, Given, steps_on_slices, turn};
use crate::ops::attention::{self, Scoring, Sizes, Span};
use crate::ops::gated::{self, Activation};
use crate::ops::rms_norm::{self, Norm, Rows};
use crate::ops::rope::{Direction, Table};
use crate::ops::{Element, Start, pointwise};

/// The tokens of a chunk as a layer sees them.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    /// Rows and which of their tokens ask.
    spans: &'a [Span],
    /// Whether some tokens do not ask.
    pruned: bool,
    /// Where each token stands in its row, (n,).
    positions: &'a [u32],
    /// The same of the tokens that ask, (m,).
    asking: &'a [u32],
}

impl<'a> View<'a> {
    /// Which tokens of a chunk ask in a layer: all, but in the last layer those that are read.
    pub(super) fn new(
        chunk: &'a Chunk,
        positions: &'a [u32],
        read_positions: &'a [u32],
        last: bool,
    ) -> Self {
        let positions = &positions[chunk.tokens.clone()];
        if last {
            Self {
                spans: &chunk.spans,
                pruned: chunk.spans != chunk.whole,
                positions,
                asking: &read_positions[chunk.read.clone()],
            }
        } else {
            Self {
                spans: &chunk.whole,
                pruned: false,
                positions,
                asking: positions,
            }
        }
    }

    /// Whether some tokens do not ask.
    pub(super) fn pruned(self) -> bool {
        self.pruned
    }

    /// The same where other chunks of the batch have tokens that do not ask: all go the same way.
    pub(super) fn pruned_with_others(self, pruned: bool) -> Self {
        Self { pruned, ..self }
    }
}

/// The CPU at one chunk.
pub(super) struct Cpu<'a, T> {
    pub(super) sizes: Sizes,
    pub(super) rotations: &'a [Arc<Table>],
    pub(super) view: View<'a>,
    /// Threads that may share a product.
    pub(super) threads: usize,
    pub(super) of: PhantomData<&'a T>,
}

fn start<T>(base: Base<&[T]>) -> Start<'_, T> {
    match base {
        Base::Zero => Start::Zero,
        Base::Result => Start::Result,
        Base::Of(values) => Start::Of(values),
    }
}

impl<'w, T: Element> Backend for Cpu<'w, T> {
    steps_on_slices!(T);

    type Map = Projection<'w, T>;
    type Weight = &'w [T];

    fn pruned(&self) -> bool {
        self.view.pruned
    }

    fn map(
        &mut self,
        map: &Projection<'w, T>,
        x: &[T],
        base: Base<&[T]>,
        out: &mut [T],
        low: &mut [T],
    ) -> Result<()> {
        map.forward(x, (start(base), out), self.threads, low);
        Ok(())
    }

    fn choose(&mut self, x: &[T], width: usize, out: &mut [T]) -> Result<()> {
        for span in self.view.spans {
            let from = (span.keys.start + span.first) * width;
            let to = span.queries.start * width..span.queries.end * width;
            let len = to.len();
            out[to].copy_from_slice(&x[from..from + len]);
        }
        Ok(())
    }

    fn rotate(
        &mut self,
        query: &mut [T],
        key_value: &mut [T],
        rotation: usize,
        direction: Direction,
    ) -> Result<()> {
        let (query, keys) = ((query, self.view.asking), (key_value, self.view.positions));
        turn(
            self.sizes,
            &self.rotations[rotation],
            query,
            keys,
            direction,
        );
        Ok(())
    }

    fn attend(
        &mut self,
        query: &[T],
        key_value: &[T],
        scoring: Scoring,
        out: &mut [T],
        log_sums: &mut [T],
    ) -> Result<()> {
        let spans = self.view.spans;
        attention::forward(
            query,
            key_value,
            spans,
            (self.sizes, scoring),
            out,
            log_sums,
        );
        Ok(())
    }
}

impl<'w, T: Element> BackBackend for Cpu<'w, T> {
    fn map_back(
        &mut self,
        map: &Projection<'w, T>,
        grad: &[T],
        base: Base<&[T]>,
        dx: &mut [T],
        lows: &mut [[&mut [T]; 2]],
    ) -> Result<()> {
        map.backward(grad, (start(base), dx), self.threads, lows);
        Ok(())
    }

    fn lows(&mut self, map: &Projection<'w, T>, x: &[T], lows: &mut [[&mut [T]; 2]]) -> Result<()> {
        map.lows(x, lows, self.threads);
        Ok(())
    }

    fn norm_back(
        &mut self,
        (x, weight, norm): (&[T], &&'w [T], Norm),
        grad: &[T],
        base: Base<&[T]>,
        dx: &mut [T],
        sums: Option<&mut [T]>,
    ) -> Result<()> {
        let sums = sums.expect(SUMMED);
        rms_norm::backward(x, weight, norm, grad, (start(base), dx), sums);
        Ok(())
    }

    fn norm_heads_back(
        &mut self,
        (x, weight, norm): (&[T], &&'w [T], Norm),
        rows: Rows,
        grad: &mut [T],
        sums: Option<&mut [T]>,
    ) -> Result<()> {
        let sums = sums.expect(SUMMED);
        rms_norm::backward_strided(x, weight, norm, rows, grad, sums);
        Ok(())
    }

    fn scatter_add(&mut self, x: &[T], width: usize, out: &mut [T]) -> Result<()> {
        for span in self.view.spans {
            let to = (span.keys.start + span.first) * width;
            let from = span.queries.start * width..span.queries.end * width;
            let sums = out[to..to + from.len()].iter_mut().zip(&x[from]);
            sums.for_each(|(sum, &value)| *sum += value);
        }
        Ok(())
    }

    fn clear(&mut self, values: &mut [T]) -> Result<()> {
        values.fill(T::zero());
        Ok(())
    }

    fn attend_back(
        &mut self,
        given: Given<&[T]>,
        log_sums: &mut [T],
        scoring: Scoring,
        d_query: &mut [T],
        d_key_value: &mut [T],
    ) -> Result<()> {
        let given = attention::Given {
            query: given.query,
            key_value: given.key_value,
            out: given.out,
            log_sums,
            grad: given.grad,
        };
        let spans = self.view.spans;
        attention::backward(&given, spans, (self.sizes, scoring), d_query, d_key_value);
        Ok(())
    }

    fn gate_back(
        &mut self,
        activation: Activation,
        gate_up: &mut [T],
        width: usize,
        grad: &mut [T],
    ) -> Result<()> {
        gated::backward(activation, gate_up, width, grad);
        Ok(())
    }
}

const SUMMED: &str = "invariant: chunks have room for the gradients of the norms they have";
