//! A batch through the model and back, written out by hand: no graph, no zeros to fill, nothing copied that can be added in
//! place (after llm.c).
//!
//! The rows of a batch are cut into chunks ([`rows`]). A thread takes a chunk through all layers ([`super::block`], on slices:
//! [`cpu`]), so that its activations stay in its core's cache and threads meet once. Backwards they meet twice a layer: after the
//! gradients of the activations, and after those of the weights ([`weights`]), which are products over all tokens.
//!
//! Legend: N tokens that go through, M tokens that are read, C channels.

mod buffers;
mod cpu;
mod cut;
mod network;
mod pool;
mod rows;
#[cfg(test)]
mod tests;
mod weights;

use std::marker::PhantomData;

use rayon::prelude::*;

use self::buffers::{Counts, KeptLayer, Left};
use self::cpu::{Cpu, View};
use self::cut::{cut, next};
use self::rows::Chunk;
use super::block::{self, Activations, Scratch, ScratchBack, Stream, Through};
use super::config::CausalLmConfig;
use crate::data::ragged::TokenBatch;
use crate::error::Result;
use crate::ops::{Element, Start, embedding, pointwise, rms_norm};

pub(crate) use self::network::{LAID_OUT, Network, Way};
pub(crate) use self::pool::{Pool, Pooled};
pub use self::rows::Read;
pub(in crate::model) use self::rows::Rows;

/// What a pass keeps for the way back.
struct Kept<T> {
    /// The input of every layer, (N, C).
    inputs: Vec<Pooled<T>>,
    /// The rest of every layer; empty where it is computed again.
    layers: Vec<KeptLayer<Pooled<T>>>,
    /// The residual stream behind the last layer, (M, C).
    last: Pooled<T>,
}

/// A batch that has gone through a network: hidden states, and what the way back needs.
pub(crate) struct Pass<T> {
    rows: Rows,
    kept: Option<Kept<T>>,
    hidden: Pooled<T>,
}

/// Where the gradients of a network's parameters are added: the whole network's or an adapter's.
pub(crate) enum NetworkGradients<'g, T> {
    /// In the order of the parameters; an output head of its own may be missing at the end.
    Weights(&'g mut [T]),
    /// In the order of the adapter's parameters; the network itself is frozen.
    Adapter(&'g mut [T]),
}

/// A batch, checked.
pub(crate) struct Prepared {
    rows: Rows,
}

impl Prepared {
    /// Tokens of the longest row, for the table of rotations.
    pub(crate) fn longest(&self) -> usize {
        self.rows.longest()
    }

    /// The rows as they go through.
    #[cfg(feature = "cuda")]
    pub(in crate::model) fn into_rows(self) -> Rows {
        self.rows
    }
}

/// Checks a batch and says which of its tokens are read.
///
/// # Errors
/// A row that the model has no positions or no embeddings for, by name.
pub(crate) fn prepare(batch: &TokenBatch, read: Read, config: &CausalLmConfig) -> Result<Prepared> {
    Ok(Prepared {
        rows: Rows::new(batch, read, config)?,
    })
}

impl<T: Element> Pass<T> {
    /// Takes a batch through a network; `keep` says whether there will be a way back.
    pub(crate) fn forward(network: &Network<'_, T>, batch: Prepared, keep: bool) -> Self {
        let rows = batch.rows;
        let (c, pool) = (network.dimensions.channels, &network.pool);
        let depth = network.layers.len();
        let (n, m) = (rows.tokens(), rows.read());
        let mut hidden = pool.take(m * c);
        let mut kept = keep.then(|| Kept {
            inputs: (0..depth).map(|_| pool.take(n * c)).collect(),
            layers: if network.recompute {
                Vec::new()
            } else {
                let of = &network.dimensions;
                let asking = |layer| if layer + 1 == depth { m } else { n };
                (0..depth)
                    .map(|layer| KeptLayer::take(pool, of, n, asking(layer)))
                    .collect()
            },
            last: pool.take(m * c),
        });
        let tasks = tasks(network, &rows, kept.as_mut(), &mut hidden);
        let threads = threads(tasks.len());
        tasks.into_par_iter().with_max_len(1).for_each(|task| {
            task.run(network, &rows, threads);
        });
        Self { rows, kept, hidden }
    }

    /// Tokens of the longest row.
    pub(crate) fn longest(&self) -> usize {
        self.rows.longest()
    }

    /// Hidden states after the final norm at the tokens that are read, row after row, (M, C).
    pub(crate) fn hidden(&self) -> &[T] {
        &self.hidden
    }

    /// Adds the gradients of all parameters of the network that the batch went through, given that of the hidden states,
    /// `d_hidden` (M, C).
    ///
    /// # Panics
    /// A pass that kept nothing.
    pub(crate) fn backward(
        self,
        network: &Network<'_, T>,
        d_hidden: &[T],
        mut gradients: NetworkGradients<'_, T>,
    ) {
        let Self { rows, kept, .. } = self;
        let Kept {
            mut inputs,
            mut layers,
            last,
        } = kept.expect("invariant: a pass with a way back keeps its activations");
        let (c, pool) = (network.dimensions.channels, &network.pool);
        let (n, m) = (rows.tokens(), rows.read());
        let tokens: Vec<usize> = rows.chunks.iter().map(|chunk| chunk.tokens.len()).collect();
        let read: Vec<usize> = rows.chunks.iter().map(|chunk| chunk.read.len()).collect();

        // The final norm; its gradient comes chunk by chunk, as those of the others do.
        let mut d_norms = pool.take(rows.chunks.len() * c);
        let mut d_out = pool.take(m * c);
        {
            let mut d_norms = cut(&mut d_norms, c, &vec![1; read.len()]);
            let mut d_out = cut(&mut d_out, c, &read);
            let parts: Vec<_> = rows
                .chunks
                .iter()
                .map(|chunk| (chunk, next(&mut d_out), next(&mut d_norms)))
                .collect();
            parts.into_par_iter().for_each(|(chunk, dx, dw)| {
                let part = chunk.read.start * c..chunk.read.end * c;
                dw.fill(T::zero());
                let (x, grad) = (&last[part.clone()], &d_hidden[part]);
                let into = (Start::Zero, dx);
                rms_norm::backward(x, network.norm, network.dimensions.norm, grad, into, dw);
            });
        }

        // The weights of a layer can wait until the activations of the layer below are under way: threads that are done
        // with the one go on with the other.
        let mut waiting: Option<Finished<T>> = None;
        for index in (0..network.layers.len()).rev() {
            let at_end = index + 1 == network.layers.len();
            let counts = Counts {
                tokens: &tokens,
                asking: if at_end { &read } else { &tokens },
                pruned: at_end && rows.chunks.iter().any(|chunk| chunk.spans != chunk.whole),
            };
            let x = inputs
                .pop()
                .expect("invariant: every layer's input is kept");
            let mut kept = layers.pop().unwrap_or_else(|| {
                let asking = counts.asking.iter().sum();
                KeptLayer::take(pool, &network.dimensions, n, asking)
            });
            let mut left = Left::take(network, &counts);
            let mut dx = pool.take(n * c);
            rayon::join(
                || {
                    if let Some(above) = waiting.take() {
                        above.weights(network, &mut gradients);
                    }
                },
                || {
                    let through = (&d_out[..], &mut dx[..]);
                    rows.back(network, index, &counts, &x, (&mut kept, &mut left), through);
                },
            );
            waiting = Some(Finished {
                index,
                kept: kept.values,
                left,
                d_out: std::mem::replace(&mut d_out, dx),
            });
        }
        if let Some(lowest) = waiting {
            lowest.weights(network, &mut gradients);
        }
        if let NetworkGradients::Weights(all) = gradients {
            let (table, norm) = network.ends(all);
            for chunk in d_norms.chunks_exact(c) {
                norm.iter_mut().zip(chunk).for_each(|(sum, &d)| *sum += d);
            }
            let scale = network.dimensions.embedding;
            if scale != 1.0 {
                pointwise::scale(&mut d_out, scale);
            }
            embedding::backward(&rows.ids, &d_out, table);
        }
    }
}

/// A layer whose gradients of activations are done.
struct Finished<T> {
    index: usize,
    kept: Activations<Pooled<T>>,
    left: Left<Pooled<T>>,
    /// The gradient of its result, (m, C).
    d_out: Pooled<T>,
}

impl<T: Element> Finished<T> {
    /// Adds the gradients of its weights.
    fn weights(mut self, network: &Network<'_, T>, gradients: &mut NetworkGradients<'_, T>) {
        let layer = &network.layers[self.index];
        let kept = self.kept.each_mut().map(|values| &values[..]);
        let left = self.left.factors.each_mut().map(|values| &values[..]);
        let factors = block::factors(layer, &kept, &left, &self.d_out[..], <[T]>::is_empty);
        let factors = factors.map(|(place, _, grad, x)| (place, grad, x));
        let lows = self.left.lows.iter();
        let lows: Vec<[&[T]; 2]> = lows
            .map(|pair| pair.each_ref().map(|low| &low[..]))
            .collect();
        match gradients {
            NetworkGradients::Weights(all) => {
                let first = network.embedding.len() + self.index * network.layout.len;
                let own = &mut all[first..first + network.layout.len];
                weights::add_own(network, &factors, &self.left.norms, own);
            }
            NetworkGradients::Adapter(all) => {
                let len = network.adapted.as_ref().map_or(0, |adapted| adapted.len);
                let own = &mut all[self.index * len..][..len];
                weights::add_adapters(network, self.index, &factors, &lows, own);
            }
        }
    }
}

impl Rows {
    /// All chunks back through a layer: from the gradient of its result to that of its input x, (N, C).
    fn back<T: Element>(
        &self,
        network: &Network<'_, T>,
        index: usize,
        counts: &Counts<'_>,
        x: &[T],
        (kept, left): (&mut KeptLayer<Pooled<T>>, &mut Left<Pooled<T>>),
        (d_out, dx): (&[T], &mut [T]),
    ) {
        let (of, pool) = (&network.dimensions, &network.pool);
        let (layer, c) = (&network.layers[index], of.channels);
        let at_end = index + 1 == network.layers.len();
        let parts = kept.cut(of, counts);
        let lefts = left.cut(network, counts);
        let mut dx = cut(dx, c, counts.tokens);
        let chunks = self.chunks.iter().zip(parts).zip(lefts);
        let tasks: Vec<_> = chunks
            .map(|((chunk, kept), left)| (chunk, kept, left, next(&mut dx)))
            .collect();
        let threads = threads(tasks.len());
        let tasks = tasks.into_par_iter().with_max_len(1);
        tasks.for_each(|(chunk, mut kept, mut left, dx)| {
            let view = self.view(chunk, at_end);
            let view = view.pruned_with_others(counts.pruned);
            let mut cpu = network.cpu(view, threads);
            let x = &x[chunk.tokens.start * c..chunk.tokens.end * c];
            let asked = if at_end { &chunk.read } else { &chunk.tokens };
            let d_out = &d_out[asked.start * c..asked.end * c];
            let (n, m) = (chunk.tokens.len(), asked.len());
            if network.recompute {
                let widths = Scratch::widths(of, counts.pruned, network.rank());
                let mut scratch = widths.map(|width| pool.take(width.len(n, m)));
                let mut scratch = scratch.each_mut().map(|room| &mut room[..]);
                let keep = (&mut kept.values, &mut *kept.log_sums);
                let stream = Stream::Apart { x, out: None };
                sure(block::forward(
                    &mut cpu,
                    of,
                    layer,
                    stream,
                    keep,
                    &mut scratch,
                ));
            }
            let widths = ScratchBack::widths(of, counts.pruned);
            let mut scratch = widths.map(|width| pool.take(width.len(n, m)));
            let mut scratch = scratch.each_mut().map(|room| &mut room[..]);
            left.norms.fill(T::zero());
            let mut norms = left.norms;
            let sums = weights::norm_widths(network).map(|width| {
                let (sums, rest) = std::mem::take(&mut norms).split_at_mut(width);
                norms = rest;
                Some(sums)
            });
            sure(block::backward(
                &mut cpu,
                of,
                layer,
                Through { x, d_out, dx },
                (&mut kept.values, kept.log_sums),
                &mut scratch,
                (&mut left.factors, &mut left.lows),
                sums,
            ));
        });
    }
}

/// The CPU's steps have nothing that fails.
fn sure(done: Result<()>) {
    done.expect("invariant: no step on slices fails");
}

impl<T: Element> Network<'_, T> {
    fn cpu<'a>(&'a self, view: View<'a>, threads: usize) -> Cpu<'a, T> {
        Cpu {
            sizes: self.dimensions.attention,
            rotations: &self.rotations,
            view,
            threads,
            of: PhantomData,
        }
    }
}

impl<T: Element> Network<'_, T> {
    /// The gradients of the embedding and of the final norm.
    fn ends<'g>(&self, all: &'g mut [T]) -> (&'g mut [T], &'g mut [T]) {
        let layers = self.layers.len() * self.layout.len;
        let (table, rest) = all.split_at_mut(self.embedding.len());
        (table, &mut rest[layers..][..self.norm.len()])
    }
}

impl Rows {
    fn view<'a>(&'a self, chunk: &'a Chunk, last: bool) -> View<'a> {
        View::new(chunk, &self.positions, &self.read_positions, last)
    }
}

/// Threads that may share a product where `tasks` run side by side.
fn threads(tasks: usize) -> usize {
    (rayon::current_num_threads() / tasks.max(1)).max(1)
}

/// A chunk's way through all layers, with the parts of the buffers that it writes.
struct Task<'t, T> {
    chunk: &'t Chunk,
    /// The inputs of all layers, then the residual stream behind the last; empty where nothing is kept.
    streams: Vec<&'t mut [T]>,
    /// What else the layers keep; empty where nothing is kept or it is computed again.
    layers: Vec<KeptLayer<&'t mut [T]>>,
    /// (m, C).
    hidden: &'t mut [T],
}

fn tasks<'t, T: Element>(
    network: &Network<'_, T>,
    rows: &'t Rows,
    kept: Option<&'t mut Kept<T>>,
    hidden: &'t mut [T],
) -> Vec<Task<'t, T>> {
    let c = network.dimensions.channels;
    let tokens: Vec<usize> = rows.chunks.iter().map(|chunk| chunk.tokens.len()).collect();
    let read: Vec<usize> = rows.chunks.iter().map(|chunk| chunk.read.len()).collect();
    let mut hidden = cut(hidden, c, &read);
    let mut tasks: Vec<Task<'t, T>> = rows
        .chunks
        .iter()
        .map(|chunk| Task {
            chunk,
            streams: Vec::new(),
            layers: Vec::new(),
            hidden: next(&mut hidden),
        })
        .collect();
    if let Some(kept) = kept {
        for input in &mut kept.inputs {
            let mut parts = cut(input, c, &tokens);
            for task in &mut tasks {
                task.streams.push(next(&mut parts));
            }
        }
        let mut parts = cut(&mut kept.last, c, &read);
        for task in &mut tasks {
            task.streams.push(next(&mut parts));
        }
        let depth = kept.layers.len();
        for (index, layer) in kept.layers.iter_mut().enumerate() {
            let counts = Counts {
                tokens: &tokens,
                asking: if index + 1 == depth { &read } else { &tokens },
                pruned: false,
            };
            let parts = layer.cut(&network.dimensions, &counts);
            for (task, part) in tasks.iter_mut().zip(parts) {
                task.layers.push(part);
            }
        }
    }
    tasks
}

impl<T: Element> Task<'_, T> {
    fn run(mut self, network: &Network<'_, T>, rows: &Rows, threads: usize) {
        let (c, pool) = (network.dimensions.channels, &network.pool);
        let (n, m) = (self.chunk.tokens.len(), self.chunk.read.len());
        let depth = network.layers.len();
        // Where nothing is kept, two streams and one set of activations serve all layers in turn.
        let keeps = !self.streams.is_empty();
        let (mut now, mut then) = if keeps {
            (pool.take(0), pool.take(0))
        } else {
            (pool.take(n * c), pool.take(n * c))
        };
        let of = &network.dimensions;
        let mut shared = self
            .layers
            .is_empty()
            .then(|| KeptLayer::take(pool, of, n, n));
        let pruned = rows.view(self.chunk, true).pruned();
        let mut scratch = Scratch::widths(of, pruned, network.rank())
            .map(|width| pool.take(width.len(n, n.max(m))));
        let mut scratch = scratch.each_mut().map(|room| &mut room[..]);
        let ids = &rows.ids[self.chunk.tokens.clone()];
        let first = if keeps {
            &mut *self.streams[0]
        } else {
            &mut now
        };
        embedding::forward(network.embedding, ids, first);
        if of.embedding != 1.0 {
            pointwise::scale(first, of.embedding);
        }
        for (index, layer) in network.layers.iter().enumerate() {
            let last = index + 1 == depth;
            let mut cpu = network.cpu(rows.view(self.chunk, last), threads);
            let asking = if last { m } else { n };
            let (x, out): (&[T], &mut [T]) = if keeps {
                let (before, after) = self.streams.split_at_mut(index + 1);
                (&*before[index], &mut *after[0])
            } else {
                (&now, &mut then[..asking * c])
            };
            let mut kept = match &mut shared {
                Some(shared) => shared.first(of, n, asking),
                None => self.layers[index].again(),
            };
            let mut room = scratch
                .each_mut()
                .zip(Scratch::widths(of, cpu.view.pruned(), network.rank()))
                .map(|(room, width)| &mut room[..width.len(n, asking)]);
            let keep = (&mut kept.values, &mut *kept.log_sums);
            let stream = Stream::Apart { x, out: Some(out) };
            sure(block::forward(&mut cpu, of, layer, stream, keep, &mut room));
            std::mem::swap(&mut now, &mut then);
        }
        let last = if keeps {
            &*self.streams[depth]
        } else {
            &now[..m * c]
        };
        rms_norm::forward(last, network.norm, of.norm, self.hidden);
    }
}
