//! Output head and softmax in one: the log-probability of a chosen token and the entropy of its distribution.
//! Legend: M positions, C channels, V vocabulary, T temperature.
//!
//! z = hidden · weightᵀ / T, `log p[j] = z[j] − log Σ e^z`, `H = −Σ p[j] log p[j]`. With gradients a of log p\[target\] and
//! b of H, `dz[j] = a · (1[j = target] − p[j]) − b · p[j] · (log p[j] + H)`. Where logits are capped, y = c · tanh(hidden ·
//! weightᵀ / c) stands for hidden · weightᵀ, and gradients have the factor 1 − (y / c)².
//!
//! (M, V) exists whole only where it is small: rows go through in chunks, forwards and again backwards, where the logits of
//! several chunks are computed a second time. What is kept for the backward pass is two numbers a position: log Σ e^z and H.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

use candle_core::{D, Tensor};
use rayon::prelude::*;

use super::element::Element;
use super::lanes::{LANES, max, total};
use super::panels::{self, Panels};
use super::pointwise;
use super::product::{Matrix, MatrixMut, Product, multiply};
use super::start::Start;
use crate::error::Result;

/// Heads of at most so many elements (8 MiB of f32) are laid out once a pass: of larger ones the copy would be felt in memory.
const LAID_OUT: usize = 1 << 21;

/// Whether a head (V, C) is laid out for its products.
pub(crate) fn is_laid_out(vocabulary: usize, channels: usize) -> bool {
    vocabulary * channels <= LAID_OUT
}

/// Logits of a chunk take about this many bytes, so that they stay in the cache between the product and the softmax.
const CHUNK_BYTES: usize = 4 << 20;
/// Rows of a chunk at least: fewer, and adding up the gradient of the weight costs more than the products.
const CHUNK_ROWS: usize = 64;

/// The head over M positions.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a, T> {
    /// (V, C).
    pub weight: Matrix<'a, T>,
    /// The tokens whose log-probability is asked, (M,), each below V.
    pub targets: &'a [u32],
    /// T, above 0.
    pub temperature: f64,
    /// What becomes of hidden · weightᵀ before it is divided by T.
    pub form: Form,
    /// Threads that share the products.
    pub threads: usize,
}

/// What logits are: the product of hidden states and the head, scaled and capped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Form {
    /// What the product is multiplied by.
    pub scale: f64,
    /// c above 0: the scaled product z becomes c · tanh(z / c) (Gemma 2).
    pub cap: Option<f64>,
}

impl Form {
    /// Makes logits of the head's product, in place.
    pub(crate) fn finish<T: Element>(self, logits: &mut [T]) {
        if self.scale != 1.0 {
            pointwise::scale(logits, self.scale);
        }
        if let Some(cap) = self.cap {
            pointwise::cap(logits, cap);
        }
    }
}

impl Default for Form {
    /// The product as it is.
    fn default() -> Self {
        Self {
            scale: 1.0,
            cap: None,
        }
    }
}

/// What the head says at M positions, and what its backward pass needs.
#[derive(Clone, Debug)]
pub struct Said<T> {
    /// log p(target), (M,), nats.
    pub logprobs: Vec<T>,
    /// −Σ p log p over the vocabulary, (M,), nats.
    pub entropy: Vec<T>,
    /// log Σ e^z, (M,).
    log_sums: Vec<T>,
}

/// A row of the softmax.
#[derive(Clone, Copy)]
struct Row<T> {
    logprob: T,
    entropy: T,
    log_sum: T,
}

impl<T: Element> Head<'_, T> {
    fn rows_of_chunk(&self) -> usize {
        (CHUNK_BYTES / (self.weight.rows() * size_of::<T>()).max(1)).max(CHUNK_ROWS)
    }

    /// How many elements the buffer for logits needs that [`Head::forward`] and [`Head::backward`] take.
    pub fn logits_len(&self) -> usize {
        self.rows_of_chunk().min(self.targets.len()) * self.weight.rows()
    }

    /// How many elements of room [`Head::forward`] and [`Head::backward`] take beside that.
    pub fn room_len(&self) -> usize {
        let (vocabulary, channels) = (self.weight.rows(), self.weight.columns());
        if is_laid_out(vocabulary, channels) {
            panels::len(channels, vocabulary)
        } else {
            0
        }
    }

    /// The head as the kernel reads it whose bits are a row's own, where it is small enough: sampling has the same logits then.
    fn laid_out<'r>(&self, room: &'r mut [T]) -> Option<Panels<&'r mut [T]>> {
        let is_laid_out = is_laid_out(self.weight.rows(), self.weight.columns());
        is_laid_out.then(|| Panels::new(self.weight.t(), room))
    }

    /// Ranges of rows whose logits are held at one time.
    fn chunks(&self) -> impl Iterator<Item = (usize, usize)> + use<T> {
        let (rows, positions) = (self.rows_of_chunk(), self.targets.len());
        (0..positions)
            .step_by(rows)
            .map(move |start| (start, rows.min(positions - start)))
    }

    /// hidden · weightᵀ of some positions, (len, V), capped where they are, not yet divided by the temperature.
    fn logits(&self, hidden: &[T], panels: Option<&Panels<&mut [T]>>, out: &mut [T]) {
        let (vocabulary, channels) = (self.weight.rows(), self.weight.columns());
        if let Some(panels) = panels {
            panels.multiply(hidden, out, Start::Zero, self.threads);
        } else {
            let n = hidden.len() / channels;
            let product = MatrixMut::new(&mut *out, n, vocabulary);
            let hidden = Matrix::new(hidden, n, channels);
            multiply(product, hidden, self.weight.t(), Product::set(self.threads));
        }
        if self.form != Form::default() {
            out.par_chunks_mut(vocabulary)
                .with_min_len(rows_of_task(vocabulary))
                .for_each(|logits| self.form.finish(logits));
        }
    }

    /// A product of the head, with what it is multiplied by.
    fn scaled(&self, product: Product<T>) -> Product<T> {
        Product {
            scale: T::from_f64(self.form.scale),
            ..product
        }
    }

    /// Log-probabilities and entropies: hidden (M, C). What `logits` held does not matter; the backward pass wants it back
    /// as it is.
    pub fn forward(&self, hidden: &[T], logits: &mut [T], room: &mut [T]) -> Said<T> {
        let (vocabulary, channels) = (self.weight.rows(), self.weight.columns());
        let mut all = Vec::with_capacity(self.targets.len());
        let panels = self.laid_out(room);
        for (start, len) in self.chunks() {
            let rows = &hidden[start * channels..(start + len) * channels];
            let logits = &mut logits[..len * vocabulary];
            self.logits(rows, panels.as_ref(), logits);
            all.par_extend(
                logits
                    .par_chunks(vocabulary)
                    .zip(&self.targets[start..start + len])
                    .with_min_len(rows_of_task(vocabulary))
                    .map(|(logits, &target)| self.softmax(logits, target)),
            );
        }
        Said {
            logprobs: all.iter().map(|row| row.logprob).collect(),
            entropy: all.iter().map(|row| row.entropy).collect(),
            log_sums: all.iter().map(|row| row.log_sum).collect(),
        }
    }

    /// The row of the softmax, from undivided logits.
    fn softmax(&self, logits: &[T], target: u32) -> Row<T> {
        let inverse = T::from_f64(1.0 / self.temperature);
        let highest = max(logits);
        // Σ e^z and Σ e^z · z with z counted from the highest logit.
        let mut sums = [T::zero(); LANES];
        let mut weighted = [T::zero(); LANES];
        let (chunks, rest) = logits.as_chunks::<LANES>();
        for chunk in chunks {
            for lane in 0..LANES {
                let z = (chunk[lane] - highest) * inverse;
                let e = z.exp();
                sums[lane] += e;
                weighted[lane] = e.fma(z, weighted[lane]);
            }
        }
        for (lane, &logit) in rest.iter().enumerate() {
            let z = (logit - highest) * inverse;
            let e = z.exp();
            sums[lane] += e;
            weighted[lane] = e.fma(z, weighted[lane]);
        }
        let (sum, weighted) = (total(sums), total(weighted));
        let log = sum.ln();
        Row {
            logprob: (logits[target as usize] - highest) * inverse - log,
            entropy: log - weighted / sum,
            log_sum: highest * inverse + log,
        }
    }

    /// Turns undivided logits into their gradient in place.
    fn differentiate(&self, logits: &mut [T], target: u32, row: Row<T>, grad: [T; 2]) {
        let inverse = T::from_f64(1.0 / self.temperature);
        let [of_logprob, of_entropy] = grad;
        let through = |logit: T| {
            let log_p = logit.fma(inverse, -row.log_sum);
            let slope = of_entropy.fma(log_p + row.entropy, of_logprob);
            -(log_p.exp() * slope * inverse)
        };
        let mut of_target = of_logprob * inverse;
        if let Some(cap) = self.form.cap {
            of_target *= pointwise::cap_slope(logits[target as usize], T::from_f64(1.0 / cap));
            for logit in &mut *logits {
                *logit = through(*logit) * pointwise::cap_slope(*logit, T::from_f64(1.0 / cap));
            }
        } else {
            for logit in &mut *logits {
                *logit = through(*logit);
            }
        }
        logits[target as usize] += of_target;
    }

    /// Writes the gradient of hidden, `d_hidden` (M, C), and adds that of the weight to `d_weight` (V, C) where it is
    /// wanted. `d_logprobs` and `d_entropy` are (M,); `logits` is what the forward pass left and is used up.
    pub fn backward(
        &self,
        said: &Said<T>,
        hidden: &[T],
        (d_logprobs, d_entropy): (&[T], Option<&[T]>),
        (logits, room): (&mut [T], &mut [T]),
        d_hidden: &mut [T],
        mut d_weight: Option<&mut [T]>,
    ) {
        let (vocabulary, channels) = (self.weight.rows(), self.weight.columns());
        let whole = self.targets.len() <= self.rows_of_chunk();
        let panels = if whole { None } else { self.laid_out(room) };
        for (start, len) in self.chunks() {
            let span = start * channels..(start + len) * channels;
            let rows = Matrix::new(&hidden[span.clone()], len, channels);
            let logits = &mut logits[..len * vocabulary];
            if !whole {
                self.logits(&hidden[span.clone()], panels.as_ref(), logits);
            }
            logits
                .par_chunks_mut(vocabulary)
                .enumerate()
                .with_min_len(rows_of_task(vocabulary))
                .for_each(|(i, logits)| {
                    let at = start + i;
                    let row = Row {
                        logprob: said.logprobs[at],
                        entropy: said.entropy[at],
                        log_sum: said.log_sums[at],
                    };
                    let of_entropy = d_entropy.map_or(T::zero(), |grad| grad[at]);
                    let grad = [d_logprobs[at], of_entropy];
                    self.differentiate(logits, self.targets[at], row, grad);
                });
            let d_logits = Matrix::new(logits, len, vocabulary);
            let d_hidden = MatrixMut::new(&mut d_hidden[span], len, channels);
            let product = self.scaled(Product::set(self.threads));
            multiply(d_hidden, d_logits, self.weight, product);
            if let Some(d_weight) = &mut d_weight {
                let d_weight = MatrixMut::new(d_weight, vocabulary, channels);
                let product = self.scaled(Product::add(self.threads));
                multiply(d_weight, d_logits.t(), rows, product);
            }
        }
    }
}

/// Turns the logits of one position into weights that sampling draws by, e^((logit − highest)/T) with `inverse` = 1/T; returns the
/// highest logit, the sum of the weights and the entropy of the distribution in nats. All have the bits of [`Head::forward`]'s.
pub(crate) fn weigh(logits: &[f32], inverse: f32, weights: &mut Vec<f32>) -> Weighed {
    let highest = max(logits);
    weights.clear();
    weights.extend_from_slice(logits);
    let mut sums = [0.0; LANES];
    let mut weighted = [0.0; LANES];
    let (chunks, rest) = weights.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let z = (chunk[lane] - highest) * inverse;
            chunk[lane] = Element::exp(z);
            sums[lane] += chunk[lane];
            weighted[lane] = chunk[lane].fma(z, weighted[lane]);
        }
    }
    for (lane, logit) in rest.iter_mut().enumerate() {
        let z = (*logit - highest) * inverse;
        *logit = Element::exp(z);
        sums[lane] += *logit;
        weighted[lane] = logit.fma(z, weighted[lane]);
    }
    let sum = total(sums);
    Weighed {
        highest,
        sum,
        entropy: sum.ln() - total(weighted) / sum,
    }
}

/// What [`weigh`] says of a distribution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weighed {
    pub(crate) highest: f32,
    pub(crate) sum: f32,
    pub(crate) entropy: f32,
}

/// Rows of the softmax that make a parallel task of about 20 µs.
fn rows_of_task(vocabulary: usize) -> usize {
    (1 << 15) / vocabulary.max(1) + 1
}

/// The same by plain tensor operations; holds (M, V) several times: hidden (M, C), weight (V, C) → log-probabilities and
/// entropies, (M,) each.
pub fn reference(
    hidden: &Tensor,
    weight: &Tensor,
    targets: &[u32],
    (temperature, form): (f64, Form),
) -> Result<(Tensor, Tensor)> {
    let mut logits = (hidden.matmul(&weight.t()?)? * form.scale)?;
    if let Some(cap) = form.cap {
        logits = pointwise::cap_reference(&logits, cap)?;
    }
    let logits = (logits / temperature)?;
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let log_p = shifted.broadcast_sub(&log_sum)?;
    let targets = Tensor::from_slice(targets, (targets.len(), 1), hidden.device())?;
    Ok((
        log_p.gather(&targets, 1)?.squeeze(1)?,
        (log_p.exp()? * &log_p)?.sum(D::Minus1)?.neg()?,
    ))
}
