//! Output head and softmax in one: the log-probability of a chosen token and the entropy of its distribution.
//! Legend: M positions, C channels, V vocabulary, T temperature.
//!
//! z = hidden · weightᵀ / T, `log p[j] = z[j] − log Σ e^z`, `H = −Σ p[j] log p[j]`. With gradients a of log p\[target\] and
//! b of H, `dz[j] = a · (1[j = target] − p[j]) − b · p[j] · (log p[j] + H)`.
//!
//! (M, V) never exists whole: rows go through in chunks, forwards and again backwards, where the logits are computed a
//! second time. What is kept for the backward pass is two numbers a position: log Σ e^z and H.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp2, D, Layout, Shape, Tensor, bail};
use rayon::prelude::*;

use super::element::{Element, with_element};
use super::lanes::{LANES, max, total};
use super::product::{Matrix, multiply};
use super::shape;
use super::storage::{Held, slice};
use crate::error::{Error, Result};

const OP: &str = "log_probs";

/// Logits of a chunk take about this many bytes, so that they stay in the cache between the product and the softmax.
const CHUNK_BYTES: usize = 4 << 20;
/// Rows of a chunk at least: fewer, and adding up the gradient of the weight costs more than the products.
const CHUNK_ROWS: usize = 64;

/// What the head says at M positions; both are differentiable.
#[derive(Clone, Debug)]
pub struct LogProbs {
    /// log p(target), (M,), nats.
    pub logprobs: Tensor,
    /// −Σ p log p over the vocabulary, (M,), nats.
    pub entropy: Tensor,
}

/// Log-probabilities of `targets` and entropies under softmax(hidden · weightᵀ / temperature): hidden (M, C),
/// weight (V, C), targets (M,) → (M,) and (M,). The temperature is above 0.
pub fn log_probs(
    hidden: &Tensor,
    weight: &Tensor,
    targets: &[u32],
    temperature: f64,
) -> Result<LogProbs> {
    let (positions, channels) = shape::matrix(OP, "hidden", hidden)?;
    let (vocabulary, expected) = shape::matrix(OP, "weight", weight)?;
    let dtype = shape::elements(OP, &[("hidden", hidden), ("weight", weight)])?;
    if channels != expected {
        return Err(shape::mismatch(OP, ("hidden", hidden), ("weight", weight)));
    }
    if targets.len() != positions {
        return Err(Error::internal(format!(
            "{OP}: {} targets for hidden of shape {:?}",
            targets.len(),
            hidden.dims()
        )));
    }
    shape::indices(OP, "targets", targets, vocabulary)?;
    if !(temperature.is_finite() && temperature > 0.0) {
        return Err(Error::internal(format!(
            "{OP}: temperature is {temperature}, a number above 0 is accepted"
        )));
    }
    let (hidden, weight) = (hidden.contiguous()?, weight.contiguous()?);
    with_element!(OP, dtype, T => {
        let op = Head::<T> {
            targets: targets.to_vec(),
            temperature,
            kept: OnceLock::new(),
        };
        let both = hidden.apply_op2(&weight, op)?;
        Ok(LogProbs {
            logprobs: both.narrow(1, 0, 1)?.squeeze(1)?,
            entropy: both.narrow(1, 1, 1)?.squeeze(1)?,
        })
    })
}

/// The same by plain tensor operations; holds (M, V) several times.
pub fn reference(
    hidden: &Tensor,
    weight: &Tensor,
    targets: &[u32],
    temperature: f64,
) -> Result<LogProbs> {
    let logits = (hidden.matmul(&weight.t()?)? / temperature)?;
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let log_p = shifted.broadcast_sub(&log_sum)?;
    let targets = Tensor::from_slice(targets, (targets.len(), 1), hidden.device())?;
    Ok(LogProbs {
        logprobs: log_p.gather(&targets, 1)?.squeeze(1)?,
        entropy: (log_p.exp()? * &log_p)?.sum(D::Minus1)?.neg()?,
    })
}

/// A row of the softmax, small enough to keep.
#[derive(Clone, Copy)]
struct Row<T> {
    log_sum: T,
    entropy: T,
}

struct Head<T> {
    targets: Vec<u32>,
    temperature: f64,
    /// A row for each position, written by the forward pass for the backward pass.
    kept: OnceLock<Vec<Row<T>>>,
}

impl<T: Element> Head<T> {
    /// Ranges of rows whose logits are held at one time.
    fn chunks(&self, vocabulary: usize) -> impl Iterator<Item = (usize, usize)> {
        let rows = CHUNK_BYTES / (vocabulary * size_of::<T>()).max(1);
        let (rows, positions) = (rows.max(CHUNK_ROWS), self.targets.len());
        (0..positions)
            .step_by(rows)
            .map(move |start| (start, rows.min(positions - start)))
    }

    /// hidden · weightᵀ of some positions, (len, V), not yet divided by the temperature.
    fn logits(hidden: Matrix<'_, T>, weight: Matrix<'_, T>, out: &mut Vec<T>) {
        out.resize(hidden.rows() * weight.rows(), T::zero());
        multiply(out, hidden, weight.t(), false);
    }

    /// log p of the target and the row of the softmax, from undivided logits.
    fn softmax(&self, logits: &[T], target: u32) -> (T, Row<T>) {
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
        let row = Row {
            log_sum: highest * inverse + log,
            entropy: log - weighted / sum,
        };
        ((logits[target as usize] - highest) * inverse - log, row)
    }

    /// Turns undivided logits into their gradient in place.
    fn differentiate(&self, logits: &mut [T], target: u32, row: Row<T>, grad: [T; 2]) {
        let inverse = T::from_f64(1.0 / self.temperature);
        let [of_logprob, of_entropy] = grad;
        for logit in &mut *logits {
            let log_p = logit.fma(inverse, -row.log_sum);
            let slope = of_entropy.fma(log_p + row.entropy, of_logprob);
            *logit = -(log_p.exp() * slope * inverse);
        }
        logits[target as usize] += of_logprob * inverse;
    }

    /// d hidden (M, C) and d weight (V, C).
    fn backward(
        &self,
        hidden: &[T],
        weight: Matrix<'_, T>,
        grad: &[T],
    ) -> candle_core::Result<(Vec<T>, Vec<T>)> {
        let Some(kept) = self.kept.get() else {
            bail!("{OP}: a backward pass before the forward pass");
        };
        let (vocabulary, channels) = (weight.rows(), weight.columns());
        let mut d_hidden = vec![T::zero(); self.targets.len() * channels];
        let mut d_weight = vec![T::zero(); vocabulary * channels];
        let mut logits = Vec::new();
        for (start, len) in self.chunks(vocabulary) {
            let span = start * channels..(start + len) * channels;
            let rows = Matrix::new(&hidden[span.clone()], len, channels);
            Self::logits(rows, weight, &mut logits);
            logits
                .par_chunks_mut(vocabulary)
                .enumerate()
                .for_each(|(i, logits)| {
                    let at = start + i;
                    let grad = [grad[2 * at], grad[2 * at + 1]];
                    self.differentiate(logits, self.targets[at], kept[at], grad);
                });
            let d_logits = Matrix::new(&logits, len, vocabulary);
            multiply(&mut d_hidden[span], d_logits, weight, false);
            multiply(&mut d_weight, d_logits.t(), rows, start > 0);
        }
        Ok((d_hidden, d_weight))
    }
}

impl<T: Element> CustomOp2 for Head<T> {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        hidden: &CpuStorage,
        hidden_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (vocabulary, channels) = weight_layout.shape().dims2()?;
        let hidden = slice::<T>(hidden, hidden_layout)?;
        let weight = Matrix::new(slice::<T>(weight, weight_layout)?, vocabulary, channels);
        let mut logits = Vec::new();
        let mut out = Vec::with_capacity(2 * self.targets.len());
        let mut kept = Vec::with_capacity(self.targets.len());
        for (start, len) in self.chunks(vocabulary) {
            let rows = &hidden[start * channels..(start + len) * channels];
            Self::logits(Matrix::new(rows, len, channels), weight, &mut logits);
            let rows: Vec<(T, Row<T>)> = logits
                .par_chunks(vocabulary)
                .zip(&self.targets[start..start + len])
                .map(|(logits, &target)| self.softmax(logits, target))
                .collect();
            for (logprob, row) in rows {
                out.extend([logprob, row.entropy]);
                kept.push(row);
            }
        }
        // The operation is made for one call, so nothing was kept before.
        self.kept.get_or_init(|| kept);
        let shape = Shape::from((self.targets.len(), 2));
        Ok((T::to_cpu_storage_owned(out), shape))
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        weight: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let held = [hidden, weight, &grad].map(Held::new);
        let (vocabulary, channels) = weight.dims2()?;
        let matrix = Matrix::new(held[1].slice()?, vocabulary, channels);
        let (d_hidden, d_weight) = self.backward(held[0].slice()?, matrix, held[2].slice()?)?;
        let d_hidden = Tensor::from_vec(d_hidden, hidden.shape(), hidden.device())?;
        let d_weight = Tensor::from_vec(d_weight, weight.shape(), weight.device())?;
        Ok((Some(d_hidden), Some(d_weight)))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::super::gradient_check::{assert_agrees, assert_close, assert_gradients, wave};
    use super::*;

    /// Both results side by side, (M, 2).
    fn both(of: LogProbs) -> Result<Tensor> {
        Ok(Tensor::stack(&[of.logprobs, of.entropy], 1)?)
    }

    /// PyTorch in f64, with h and w waves of phases 0.5 and 2:
    /// `lp = torch.log_softmax(h @ w.T / 0.7, -1); a = lp[[0, 1], [3, 0]]; e = -(lp.exp() * lp).sum(-1)`
    /// `(a * tensor([1, -2]) + e * tensor([.5, .25])).sum().backward()`
    #[test]
    fn agrees_with_torch() -> Result<()> {
        let hidden = Var::from_tensor(&wave(&[2, 3], 0.5))?;
        let weight = Var::from_tensor(&wave(&[5, 3], 2.0))?;
        let out = log_probs(hidden.as_tensor(), weight.as_tensor(), &[3, 0], 0.7)?;
        let logprobs = [-3.973_196_035_471_426_4, -4.361_007_202_138_098];
        let entropy = [1.034_735_266_711_800_8, 1.112_437_188_668_640_6];
        assert_close(&out.logprobs, &logprobs, 1e-12);
        assert_close(&out.entropy, &entropy, 1e-12);

        let device = hidden.device();
        let weighted = (out.logprobs * Tensor::new(&[1.0, -2.0], device)?)?
            .add(&(out.entropy * Tensor::new(&[0.5, 0.25], device)?)?)?;
        let grads = weighted.sum_all()?.backward()?;
        let of = |var: &Var| grads.get(var.as_tensor()).expect("a gradient").clone();
        let d_hidden = [
            -2.359_182_024_464_96,
            -0.527_826_182_963_132_4,
            2.495_197_019_704_604_7,
            -4.153_702_322_735_323,
            2.721_093_559_867_335,
            3.452_506_475_431_490_7,
        ];
        let d_weight_3 = [
            -0.092_740_919_912_375_76,
            2.220_958_159_069_787,
            -0.479_575_541_801_356_75,
        ];
        assert_close(&of(&hidden), &d_hidden, 1e-12);
        assert_close(&of(&weight).get(3)?, &d_weight_3, 1e-12);
        Ok(())
    }

    #[test]
    fn gradients_through_both_results() -> Result<()> {
        for temperature in [1.0, 0.6] {
            assert_gradients(
                |t| both(log_probs(&t[0], &t[1], &[1, 19, 1], temperature)?),
                &[wave(&[3, 4], 0.1), wave(&[20, 4], 1.0)],
            )?;
        }
        Ok(())
    }

    /// 17 000 words make chunks of 64 rows: the last of three is short.
    #[test]
    fn several_chunks_agree_with_the_whole() -> Result<()> {
        let targets: Vec<u32> = (0..130).map(|i| i * 130).collect();
        assert_agrees(
            |t| both(log_probs(&t[0], &t[1], &targets, 0.9)?),
            |t| both(reference(&t[0], &t[1], &targets, 0.9)?),
            &[wave(&[130, 2], 0.1), wave(&[17_000, 2], 1.0)],
        )
    }

    #[test]
    fn no_positions_give_no_results() -> Result<()> {
        let hidden = Var::zeros((0, 3), candle_core::DType::F32, &candle_core::Device::Cpu)?;
        let weight = Var::from_tensor(&wave(&[5, 3], 0.0).to_dtype(hidden.dtype())?)?;
        let out = log_probs(hidden.as_tensor(), weight.as_tensor(), &[], 1.0)?;
        assert_eq!(
            (out.logprobs.dims(), out.entropy.dims()),
            (&[0][..], &[0][..])
        );
        let grads = out.logprobs.sum_all()?.backward()?;
        let grad = grads.get(weight.as_tensor()).expect("a gradient");
        assert_close(grad, &[0.0; 15], 0.0);
        Ok(())
    }

    /// Logits of ±1000 overflow e^z unless they are counted from the highest.
    #[test]
    fn extreme_logits_stay_finite() -> Result<()> {
        let device = candle_core::Device::Cpu;
        let hidden = Tensor::new(&[[1000f32]], &device)?;
        let weight = Tensor::new(&[[1f32], [-1.0], [1.0]], &device)?;
        let out = log_probs(&hidden, &weight, &[1], 1.0)?;
        assert_close(&out.logprobs, &[-2000.0 - 2f64.ln()], 1e-3);
        assert_close(&out.entropy, &[2f64.ln()], 1e-6);
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (hidden, weight) = (wave(&[2, 3], 0.0), wave(&[5, 3], 0.0));
        let of = |targets: &[u32], temperature| {
            let error = log_probs(&hidden, &weight, targets, temperature).unwrap_err();
            error.to_string()
        };
        assert_eq!(
            of(&[0, 5], 1.0),
            "log_probs: targets[1] is 5, below 5 is accepted"
        );
        assert!(of(&[0], 1.0).contains("1 targets for hidden of shape [2, 3]"));
        assert!(of(&[0, 0], 0.0).contains("temperature is 0"));
        assert!(of(&[0, 0], f64::NAN).contains("temperature is NaN"));
    }
}
