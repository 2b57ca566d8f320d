//! Tests of the head as a whole. Legend: M positions, C channels, V vocabulary.

use super::super::gradient_check::{Operation, assert_close, assert_gradients, test_device, wave};
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
    form: Form,
}

#[cfg(feature = "cuda")]
type RunOn = (Buffer<f32>, Buffer<i32>, [Buffer<f32>; 3]);

impl Probabilities {
    fn head<'a, T: Element>(&'a self, weight: &'a [T]) -> Head<'a, T> {
        Head {
            weight: Matrix::new(weight, weight.len() / self.channels, self.channels),
            targets: &self.targets,
            temperature: self.temperature,
            form: self.form,
            threads: 2,
        }
    }

    fn run<T: Element>(&self, inputs: &[Vec<T>]) -> (Said<T>, Vec<T>) {
        let head = self.head(&inputs[1]);
        let mut logits = vec![T::zero(); head.logits_len()];
        let mut room = vec![T::zero(); head.room_len()];
        (head.forward(&inputs[0], &mut logits, &mut room), logits)
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
        gpu.multiply(out, hidden, weight, self.form.scale as f32, false)?;
        if let Some(cap) = self.form.cap {
            pointwise::cuda::cap(gpu, logits.view_mut(), cap)?;
        }
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
        let mut room = vec![T::zero(); head.room_len()];
        let buffers = (&mut logits[..], &mut room[..]);
        head.backward(&said, &inputs[0], grad, buffers, &mut d_hidden, target);
        vec![d_hidden, d_weight]
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let hidden = inputs[0].reshape(((), self.channels))?;
        let weight = inputs[1].reshape(((), self.channels))?;
        let (logprobs, entropy) = reference(
            &hidden,
            &weight,
            &self.targets,
            (self.temperature, self.form),
        )?;
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
        if let Some(cap) = self.form.cap {
            pointwise::cuda::cap_backward(gpu, logits.view(), cap, d_logits.view_mut())?;
        }
        let mut d_hidden = Buffer::<Real>::new(gpu, m * c)?;
        let mut d_weight = gpu.zeros::<f32>(v * c)?;
        let d_logits = device::Matrix::new(d_logits.view(), m, v);
        let hidden = device::Matrix::new(inputs[0].view(), m, c);
        let weight = device::Matrix::new(inputs[1].view(), v, c);
        let out = device::MatrixMut::new(d_hidden.view_mut(), m, c);
        let scale = self.form.scale as f32;
        gpu.multiply(out, d_logits, weight, scale, false)?;
        let out = device::MatrixMut::new(d_weight.view_mut(), v, c);
        gpu.multiply(out, d_logits.t(), hidden, scale, true)?;
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
        form: Form::default(),
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
    for (temperature, scale, cap) in [
        (1.0, 1.0, None),
        (0.6, 1.0, None),
        (0.6, 1.0, Some(0.8)),
        (1.0, 0.4, Some(3.0)),
        (0.7, 2.5, None),
    ] {
        let operation = Probabilities {
            targets: vec![1, 19, 1],
            channels: 4,
            temperature,
            form: Form { scale, cap },
        };
        assert_gradients(device, &operation, &[wave(12, 0.1), wave(80, 1.0)])?;
    }
    for (rows, vocabulary) in [(1, 11), (257, 11), (3, 600), (1, 30_001), (3, 32_000)] {
        let operation = Probabilities {
            targets: (0..rows).map(|i| i * 7919 % vocabulary).collect(),
            channels: 12,
            temperature: 0.7,
            form: Form {
                scale: 1.0,
                cap: (vocabulary == 600).then_some(2.0),
            },
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
            form: Form::default(),
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
        form: Form::default(),
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
        form: Form::default(),
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
        form: Form::default(),
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
        form: Form::default(),
    };
    let inputs = [wave(6, 0.5), wave(15, 2.0)];
    let both = operation.backward(&inputs, &[1.0, -2.0, 0.0, 0.0]);
    let (said, mut logits) = operation.run(&inputs);
    let mut d_hidden = vec![0.0; 6];
    let grad = (&[1.0, -2.0][..], None);
    let head = operation.head(&inputs[1]);
    let mut room = vec![0.0; head.room_len()];
    let buffers = (&mut logits[..], &mut room[..]);
    head.backward(&said, &inputs[0], grad, buffers, &mut d_hidden, None);
    assert_eq!(d_hidden, both[0]);
}

/// What sampling says of a token is what the head says of it, to the bit.
#[test]
fn weights_to_draw_by_have_the_sums_of_the_head() {
    let logits: Vec<f32> = (0..75).map(|i| (i as f32 * 1.7).sin() * 9.0).collect();
    let weight = vec![1.0f32; logits.len()];
    for temperature in [1.0, 0.7] {
        let head = Head {
            weight: Matrix::new(&weight, logits.len(), 1),
            targets: &[3],
            temperature,
            form: Form::default(),
            threads: 1,
        };
        let row = head.softmax(&logits, 3);
        let (mut weights, inverse) = (Vec::new(), (1.0 / temperature) as f32);
        let Weighed {
            highest,
            sum,
            entropy,
        } = weigh(&logits, inverse, &mut weights);
        assert_eq!(entropy.to_bits(), row.entropy.to_bits());
        let logprob = (logits[3] - highest) * inverse - sum.ln();
        assert_eq!(logprob.to_bits(), row.logprob.to_bits());
        assert!((weights[3] / sum - row.logprob.exp()).abs() < 1e-6);
    }
}
