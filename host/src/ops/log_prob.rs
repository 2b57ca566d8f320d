//! Output head and softmax in one: the log-probability of a chosen token and the entropy of its distribution.
//! Legend: M positions, C channels, V vocabulary, T temperature.
//!
//! z = hidden · weightᵀ / T, `log p[j] = z[j] − log Σ e^z`, `H = −Σ p[j] log p[j]`. With gradients a of log p\[target\] and
//! b of H, `dz[j] = a · (1[j = target] − p[j]) − b · p[j] · (log p[j] + H)`.
//!
//! (M, V) exists whole only where it is small: rows go through in chunks, forwards and again backwards, where the logits of
//! several chunks are computed a second time. What is kept for the backward pass is two numbers a position: log Σ e^z and H.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;

use candle_core::{D, Tensor};
use rayon::prelude::*;

use super::element::Element;
use super::lanes::{LANES, max, total};
use super::product::{Matrix, MatrixMut, Product, multiply};
use crate::error::Result;

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
    /// Threads that share the products.
    pub threads: usize,
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

    /// Ranges of rows whose logits are held at one time.
    fn chunks(&self) -> impl Iterator<Item = (usize, usize)> + use<T> {
        let (rows, positions) = (self.rows_of_chunk(), self.targets.len());
        (0..positions)
            .step_by(rows)
            .map(move |start| (start, rows.min(positions - start)))
    }

    /// hidden · weightᵀ of some positions, (len, V), not yet divided by the temperature.
    fn logits(&self, hidden: Matrix<'_, T>, out: &mut [T]) {
        let out = MatrixMut::new(out, hidden.rows(), self.weight.rows());
        multiply(out, hidden, self.weight.t(), Product::set(self.threads));
    }

    /// Log-probabilities and entropies: hidden (M, C). What `logits` held does not matter; the backward pass wants it back
    /// as it is.
    pub fn forward(&self, hidden: &[T], logits: &mut [T]) -> Said<T> {
        let (vocabulary, channels) = (self.weight.rows(), self.weight.columns());
        let mut all = Vec::with_capacity(self.targets.len());
        for (start, len) in self.chunks() {
            let rows = &hidden[start * channels..(start + len) * channels];
            let logits = &mut logits[..len * vocabulary];
            self.logits(Matrix::new(rows, len, channels), logits);
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
        for logit in &mut *logits {
            let log_p = logit.fma(inverse, -row.log_sum);
            let slope = of_entropy.fma(log_p + row.entropy, of_logprob);
            *logit = -(log_p.exp() * slope * inverse);
        }
        logits[target as usize] += of_logprob * inverse;
    }

    /// Writes the gradient of hidden, `d_hidden` (M, C), and adds that of the weight to `d_weight` (V, C) where it is
    /// wanted. `d_logprobs` and `d_entropy` are (M,); `logits` is what the forward pass left and is used up.
    pub fn backward(
        &self,
        said: &Said<T>,
        hidden: &[T],
        (d_logprobs, d_entropy): (&[T], Option<&[T]>),
        logits: &mut [T],
        d_hidden: &mut [T],
        mut d_weight: Option<&mut [T]>,
    ) {
        let (vocabulary, channels) = (self.weight.rows(), self.weight.columns());
        let whole = self.targets.len() <= self.rows_of_chunk();
        for (start, len) in self.chunks() {
            let span = start * channels..(start + len) * channels;
            let rows = Matrix::new(&hidden[span.clone()], len, channels);
            let logits = &mut logits[..len * vocabulary];
            if !whole {
                self.logits(rows, logits);
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
            multiply(d_hidden, d_logits, self.weight, Product::set(self.threads));
            if let Some(d_weight) = &mut d_weight {
                let d_weight = MatrixMut::new(d_weight, vocabulary, channels);
                multiply(d_weight, d_logits.t(), rows, Product::add(self.threads));
            }
        }
    }
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
    temperature: f64,
) -> Result<(Tensor, Tensor)> {
    let logits = (hidden.matmul(&weight.t()?)? / temperature)?;
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let log_p = shifted.broadcast_sub(&log_sum)?;
    let targets = Tensor::from_slice(targets, (targets.len(), 1), hidden.device())?;
    Ok((
        log_p.gather(&targets, 1)?.squeeze(1)?,
        (log_p.exp()? * &log_p)?.sum(D::Minus1)?.neg()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::super::gradient_check::{
        Operation, assert_close, assert_gradients, test_device, wave,
    };
    use super::*;
    use crate::device::Device;
    #[cfg(feature = "cuda")]
    use {
        super::super::gradient_check::with_gpus,
        crate::device::{self, Buffer, Gpu, Real},
        std::sync::Arc,
    };

    struct Probabilities {
        targets: Vec<u32>,
        channels: usize,
        temperature: f64,
    }

    #[cfg(feature = "cuda")]
    type RunOn = (Buffer<f32>, Buffer<i32>, [Buffer<f32>; 3]);

    impl Probabilities {
        fn head<'a, T: Element>(&'a self, weight: &'a [T]) -> Head<'a, T> {
            Head {
                weight: Matrix::new(weight, weight.len() / self.channels, self.channels),
                targets: &self.targets,
                temperature: self.temperature,
                threads: 2,
            }
        }

        fn run<T: Element>(&self, inputs: &[Vec<T>]) -> (Said<T>, Vec<T>) {
            let head = self.head(&inputs[1]);
            let mut logits = vec![T::zero(); head.logits_len()];
            (head.forward(&inputs[0], &mut logits), logits)
        }

        /// Logits, targets, and log-probabilities, entropies and log-sums, on a GPU.
        #[cfg(feature = "cuda")]
        fn run_on(&self, gpu: &Arc<Gpu>, inputs: &[Buffer<Real>]) -> Result<RunOn> {
            let (m, c) = (self.targets.len(), self.channels);
            let v = inputs[1].len() / c;
            let targets: Vec<i32> = self.targets.iter().map(|&id| id as i32).collect();
            let targets = Buffer::upload(gpu, &targets)?;
            let mut logits = Buffer::new(gpu, m * v)?;
            let hidden = device::Matrix::new(inputs[0].view(), m, c);
            let weight = device::Matrix::new(inputs[1].view(), v, c).t();
            let out = device::MatrixMut::new(logits.view_mut(), m, v);
            gpu.multiply(out, hidden, weight, 1.0, false)?;
            let mut said = [
                Buffer::new(gpu, m)?,
                Buffer::new(gpu, m)?,
                Buffer::new(gpu, m)?,
            ];
            let [logprobs, entropy, log_sums] = said.each_mut().map(Buffer::view_mut);
            let out = cuda::SaidMut {
                logprobs,
                entropy,
                log_sums,
            };
            cuda::forward(gpu, logits.view(), targets.view(), self.temperature, out)?;
            Ok((logits, targets, said))
        }
    }

    /// Log-probabilities, then entropies.
    impl Operation for Probabilities {
        fn forward<T: Element>(&self, inputs: &[Vec<T>]) -> Vec<T> {
            let said = self.run(inputs).0;
            [said.logprobs, said.entropy].concat()
        }

        fn backward<T: Element>(&self, inputs: &[Vec<T>], grad: &[T]) -> Vec<Vec<T>> {
            let (said, mut logits) = self.run(inputs);
            let (of_logprobs, of_entropy) = grad.split_at(self.targets.len());
            let grad = (of_logprobs, Some(of_entropy));
            let mut d_hidden = vec![T::zero(); inputs[0].len()];
            let mut d_weight = vec![T::zero(); inputs[1].len()];
            let head = self.head(&inputs[1]);
            let target = Some(&mut d_weight[..]);
            head.backward(&said, &inputs[0], grad, &mut logits, &mut d_hidden, target);
            vec![d_hidden, d_weight]
        }

        fn reference(&self, inputs: &[Tensor]) -> Result<Tensor> {
            let hidden = inputs[0].reshape(((), self.channels))?;
            let weight = inputs[1].reshape(((), self.channels))?;
            let (logprobs, entropy) = reference(&hidden, &weight, &self.targets, self.temperature)?;
            Ok(Tensor::cat(&[logprobs, entropy], 0)?)
        }

        #[cfg(feature = "cuda")]
        fn forward_on(&self, gpu: &Arc<Gpu>, inputs: &[Buffer<Real>]) -> Result<Vec<f32>> {
            let (_, _, [logprobs, entropy, _]) = self.run_on(gpu, inputs)?;
            Ok([logprobs.download()?, entropy.download()?].concat())
        }

        #[cfg(feature = "cuda")]
        fn backward_on(
            &self,
            gpu: &Arc<Gpu>,
            inputs: &[Buffer<Real>],
            grad: &[f32],
        ) -> Result<Vec<Vec<f32>>> {
            let (logits, targets, [_, entropy, log_sums]) = self.run_on(gpu, inputs)?;
            let (m, c) = (targets.len(), self.channels);
            let v = inputs[1].len() / c;
            let (of_logprobs, of_entropy) = grad.split_at(m);
            let d_logprobs = Buffer::upload(gpu, of_logprobs)?;
            let d_entropy = Buffer::upload(gpu, of_entropy)?;
            let given = cuda::Given {
                targets: targets.view(),
                entropy: entropy.view(),
                log_sums: log_sums.view(),
                d_logprobs: d_logprobs.view(),
                d_entropy: Some(d_entropy.view()),
            };
            let mut d_logits = Buffer::<Real>::new(gpu, m * v)?;
            cuda::backward(
                gpu,
                logits.view(),
                self.temperature,
                given,
                d_logits.view_mut(),
            )?;
            let mut d_hidden = Buffer::<Real>::new(gpu, m * c)?;
            let mut d_weight = gpu.zeros::<f32>(v * c)?;
            let d_logits = device::Matrix::new(d_logits.view(), m, v);
            let hidden = device::Matrix::new(inputs[0].view(), m, c);
            let weight = device::Matrix::new(inputs[1].view(), v, c);
            let out = device::MatrixMut::new(d_hidden.view_mut(), m, c);
            gpu.multiply(out, d_logits, weight, 1.0, false)?;
            let out = device::MatrixMut::new(d_weight.view_mut(), v, c);
            gpu.multiply(out, d_logits.t(), hidden, 1.0, true)?;
            Ok(vec![d_hidden.download_real()?, d_weight.download()?])
        }
    }

    /// PyTorch in f64, with h and w waves of phases 0.5 and 2:
    /// `lp = torch.log_softmax(h @ w.T / 0.7, -1); a = lp[[0, 1], [3, 0]]; e = -(lp.exp() * lp).sum(-1)`
    /// `(a * tensor([1, -2]) + e * tensor([.5, .25])).sum().backward()`
    #[test]
    fn agrees_with_torch() {
        let operation = Probabilities {
            targets: vec![3, 0],
            channels: 3,
            temperature: 0.7,
        };
        let inputs = [wave(6, 0.5), wave(15, 2.0)];
        let expected = [
            -3.973_196_035_471_426_4,
            -4.361_007_202_138_098,
            1.034_735_266_711_800_8,
            1.112_437_188_668_640_6,
        ];
        assert_close(&operation.forward(&inputs), &expected, 1e-12);
        let gradients = operation.backward(&inputs, &[1.0, -2.0, 0.5, 0.25]);
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
        assert_close(&gradients[0], &d_hidden, 1e-12);
        assert_close(&gradients[1][9..12], &d_weight_3, 1e-12);
    }

    fn gradients(device: &Device) -> Result<()> {
        for temperature in [1.0, 0.6] {
            let operation = Probabilities {
                targets: vec![1, 19, 1],
                channels: 4,
                temperature,
            };
            assert_gradients(device, &operation, &[wave(12, 0.1), wave(80, 1.0)])?;
        }
        for (rows, vocabulary) in [(1, 11), (257, 11), (3, 600), (1, 30_001), (3, 32_000)] {
            let operation = Probabilities {
                targets: (0..rows).map(|i| i * 7919 % vocabulary).collect(),
                channels: 12,
                temperature: 0.7,
            };
            let (rows, vocabulary) = (rows as usize, vocabulary as usize);
            let operands = [wave(12 * rows, 0.1), wave(12 * vocabulary, 1.0)];
            assert_gradients(device, &operation, &operands)?;
        }
        Ok(())
    }

    test_device!(gradients, gradients_on_cpu, gradients_on_cuda);

    /// No positions; logits of ±1000.
    #[cfg(feature = "cuda")]
    #[test]
    fn a_gpu_takes_nothing_and_extremes() -> Result<()> {
        with_gpus(|gpu| {
            let device = Device::Cuda(gpu.clone());
            let operation = |targets| Probabilities {
                targets,
                channels: 1,
                temperature: 1.0,
            };
            assert_gradients(
                &device,
                &operation(Vec::new()),
                &[Vec::new(), wave(11, 1.0)],
            )?;
            let operands = [vec![1000.0], vec![1.0, -1.0, 1.0]];
            assert_gradients(&device, &operation(vec![1]), &operands)
        })
    }

    /// 17 000 words make chunks of 64 rows: the last of three is short.
    #[test]
    fn several_chunks_agree_with_the_whole() -> Result<()> {
        let operation = Probabilities {
            targets: (0..130).map(|i| i * 130).collect(),
            channels: 2,
            temperature: 0.9,
        };
        assert_gradients(
            &Device::Cpu,
            &operation,
            &[wave(260, 0.1), wave(34_000, 1.0)],
        )
    }

    #[test]
    fn no_positions_give_no_results_and_leave_the_gradient() {
        let operation = Probabilities {
            targets: Vec::new(),
            channels: 3,
            temperature: 1.0,
        };
        let inputs = [Vec::new(), wave(15, 0.0)];
        assert!(operation.forward(&inputs).is_empty());
        assert_eq!(operation.backward(&inputs, &[])[1], [0.0; 15]);
    }

    /// Logits of ±1000 overflow e^z unless they are counted from the highest.
    #[test]
    fn extreme_logits_stay_finite() {
        let operation = Probabilities {
            targets: vec![1],
            channels: 1,
            temperature: 1.0,
        };
        let found = operation.forward(&[vec![1000f32], vec![1.0, -1.0, 1.0]]);
        assert!((found[0] + 2000.0 + 2f32.ln()).abs() < 1e-3);
        assert!((found[1] - 2f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn a_frozen_weight_costs_no_product_and_changes_nothing_else() {
        let operation = Probabilities {
            targets: vec![3, 0],
            channels: 3,
            temperature: 1.0,
        };
        let inputs = [wave(6, 0.5), wave(15, 2.0)];
        let both = operation.backward(&inputs, &[1.0, -2.0, 0.0, 0.0]);
        let (said, mut logits) = operation.run(&inputs);
        let mut d_hidden = vec![0.0; 6];
        let grad = (&[1.0, -2.0][..], None);
        let head = operation.head(&inputs[1]);
        head.backward(&said, &inputs[0], grad, &mut logits, &mut d_hidden, None);
        assert_eq!(d_hidden, both[0]);
    }
}
