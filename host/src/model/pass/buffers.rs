//! What a pass holds for a layer, over all tokens and cut into the chunks' parts.
//! Legend: n tokens, m tokens of them that ask, H heads, r rank of an adapter.

use std::sync::Arc;

use super::cut::{cut, next};
use super::network::Network;
use super::pool::{Pool, Pooled};
use super::weights;
use crate::model::block::{Activations, Factors, Tokens, Width};
use crate::model::description::Dimensions;
use crate::ops::Element;

/// What a layer keeps for its way back, besides its input.
pub(super) struct KeptLayer<B> {
    pub(super) values: Activations<B>,
    /// (m, H).
    pub(super) log_sums: B,
}

/// So many tokens and so many that ask, chunk by chunk.
pub(super) struct Counts<'a> {
    pub(super) tokens: &'a [usize],
    pub(super) asking: &'a [usize],
    /// Whether some tokens do not ask.
    pub(super) pruned: bool,
}

impl Counts<'_> {
    /// Elements of a buffer for all chunks.
    pub(super) fn len(&self, width: Width) -> usize {
        width.len(self.tokens.iter().sum(), self.asking.iter().sum())
    }

    /// The parts of the chunks.
    pub(super) fn cut<'b, T>(&self, (values, width): (&'b mut Pooled<T>, Width)) -> Parts<'b, T> {
        let counts = match width.tokens {
            Tokens::All => self.tokens,
            Tokens::Asking => self.asking,
        };
        cut(values, width.width, counts)
    }
}

type Parts<'a, T> = std::vec::IntoIter<&'a mut [T]>;

impl<T: Element> KeptLayer<Pooled<T>> {
    /// Buffers for n tokens of which m ask.
    pub(super) fn take(pool: &Arc<Pool<T>>, of: &Dimensions, n: usize, m: usize) -> Self {
        Self {
            values: Activations::widths(of).map(|width| pool.take(width.len(n, m))),
            log_sums: pool.take(m * of.attention.heads),
        }
    }

    /// The parts of the chunks.
    pub(super) fn cut(&mut self, of: &Dimensions, counts: &Counts<'_>) -> Vec<KeptLayer<&mut [T]>> {
        let widths = Activations::widths(of);
        let mut values = self.values.each_mut().zip(widths).map(|it| counts.cut(it));
        let mut log_sums = cut(&mut self.log_sums, of.attention.heads, counts.asking);
        let mut part = || KeptLayer {
            values: values.each_mut().map(next),
            log_sums: next(&mut log_sums),
        };
        counts.tokens.iter().map(|_| part()).collect()
    }

    /// The beginnings of the buffers, for n tokens of which m ask.
    pub(super) fn first(&mut self, of: &Dimensions, n: usize, m: usize) -> KeptLayer<&mut [T]> {
        let counts = Counts {
            tokens: &[n],
            asking: &[m],
            pruned: false,
        };
        self.cut(of, &counts).remove(0)
    }
}

impl<T> KeptLayer<&mut [T]> {
    /// The same for a shorter time.
    pub(super) fn again(&mut self) -> KeptLayer<&mut [T]> {
        KeptLayer {
            values: self.values.each_mut().map(|values| &mut **values),
            log_sums: self.log_sums,
        }
    }
}

/// What a layer's way back leaves for the gradients of its parameters.
pub(super) struct Left<B> {
    pub(super) factors: Factors<B>,
    /// A · x and scale · dy · B of every adapter, by slot, (m or n, r).
    pub(super) lows: Vec<[B; 2]>,
    /// The sums of the norms' gradients, chunk by chunk.
    pub(super) norms: B,
}

impl<T: Element> Left<Pooled<T>> {
    pub(super) fn take(network: &Network<'_, T>, counts: &Counts<'_>) -> Self {
        let (of, pool) = (&network.dimensions, &network.pool);
        let take = |width| pool.take(counts.len(width));
        let slots = network.slots.iter();
        let norms = weights::norm_widths(network).iter().sum::<usize>();
        Self {
            factors: Factors::widths(of, counts.pruned).map(take),
            lows: slots
                .map(|slot| [take(slot.width()), take(slot.width())])
                .collect(),
            norms: pool.take(counts.tokens.len() * norms),
        }
    }

    /// The parts of the chunks.
    pub(super) fn cut(
        &mut self,
        network: &Network<'_, T>,
        counts: &Counts<'_>,
    ) -> Vec<Left<&mut [T]>> {
        let widths = Factors::widths(&network.dimensions, counts.pruned);
        let mut factors = self.factors.each_mut().zip(widths).map(|it| counts.cut(it));
        let mut lows: Vec<[Parts<'_, T>; 2]> = self
            .lows
            .iter_mut()
            .zip(&network.slots)
            .map(|(pair, slot)| pair.each_mut().map(|low| counts.cut((low, slot.width()))))
            .collect();
        let width = weights::norm_widths(network).iter().sum::<usize>();
        let mut norms = cut(&mut self.norms, width, &vec![1; counts.tokens.len()]);
        let mut part = || Left {
            factors: factors.each_mut().map(next),
            lows: lows
                .iter_mut()
                .map(|pair| pair.each_mut().map(next))
                .collect(),
            norms: next(&mut norms),
        };
        counts.tokens.iter().map(|_| part()).collect()
    }
}
