//! AdamW (Loshchilov and Hutter, 2019) with the arithmetic of `torch.optim.AdamW`, and clipping by the global norm.
//!
//! ```text
//! p ← p · (1 − lr·λ)
//! m ← β₁·m + (1 − β₁)·g        v ← β₂·v + (1 − β₂)·g²
//! p ← p − lr/(1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
//! ```
//! On the CPU one pass per parameter reads and writes p, m, v and g, with the clipping factor folded in; elsewhere the
//! same formulas run as tensor operations.

use std::sync::Mutex;

use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Result as CandleResult, Tensor, Var};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gradients::{CHUNK, GradientSum, on_cpu_f32, slice, slice_mut};
use crate::error::{Error, Result};

/// The optimizer's constants; the learning rate belongs to the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// β₁, the decay of the first moment. PyTorch: 0.9.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub beta1: f64,
    /// β₂, the decay of the second moment. PyTorch: 0.999.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub beta2: f64,
    /// ε, added to √v̂. PyTorch and Hugging Face: 1e-8; AlpacaFarm's PPO: 1e-5.
    #[schemars(range(min = 0.0))]
    pub eps: f64,
    /// λ, the decoupled weight decay. AlpacaFarm: 0.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Whether the decay also applies to parameters of one dimension (norm weights, biases). Hugging Face leaves them
    /// out; `torch.optim.AdamW` by itself takes all.
    pub decay_vectors: bool,
    /// The largest Euclidean norm over all gradients of a step; larger ones are scaled down to it. 0 = no clipping.
    /// Hugging Face: 1.
    #[schemars(range(min = 0.0))]
    pub max_grad_norm: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            decay_vectors: false,
            max_grad_norm: 1.0,
        }
    }
}

impl OptimizerConfig {
    /// Refuses constants that AdamW cannot use; `section` is where they stand in the configuration.
    pub fn validate(&self, section: &str) -> Result<()> {
        for (key, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::input(format!(
                    "{section}.{key}: {beta} is not accepted; at least 0 and below 1 is"
                )));
            }
        }
        for (key, value) in [
            ("eps", self.eps),
            ("weight_decay", self.weight_decay),
            ("max_grad_norm", self.max_grad_norm),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::input(format!(
                    "{section}.{key}: {value} is not accepted; a finite number of at least 0 is"
                )));
            }
        }
        Ok(())
    }

    /// The factor that brings a gradient of this norm down to `max_grad_norm` (`torch.nn.utils.clip_grad_norm_`).
    pub fn clip_factor(&self, norm: f64) -> f64 {
        if self.max_grad_norm == 0.0 {
            return 1.0;
        }
        (self.max_grad_norm / (norm + 1e-6)).min(1.0)
    }
}

/// m and v of one parameter: plain vectors where the fused pass runs, tensors on other devices.
#[derive(Debug)]
enum Moments {
    Host { m: Vec<f32>, v: Vec<f32> },
    Device { m: Tensor, v: Tensor },
}

/// AdamW over named parameters, with the sum of the gradients of the step that is being prepared.
#[derive(Debug)]
pub struct AdamW {
    parameters: Vec<(String, Var)>,
    moments: Vec<Moments>,
    gradients: GradientSum,
    config: OptimizerConfig,
    steps: u64,
}

impl AdamW {
    /// An optimizer with zero moments.
    ///
    /// # Errors
    /// A parameter that is not f32.
    pub fn new(parameters: Vec<(String, Var)>, config: &OptimizerConfig) -> Result<Self> {
        let moments = parameters
            .iter()
            .map(|(name, var)| {
                if var.dtype() != DType::F32 {
                    return Err(Error::internal(format!(
                        "parameter {name} is {:?}; the optimizer takes f32",
                        var.dtype()
                    )));
                }
                let n = var.elem_count();
                Ok(if on_cpu_f32(var) {
                    Moments::Host {
                        m: vec![0.0; n],
                        v: vec![0.0; n],
                    }
                } else {
                    Moments::Device {
                        m: var.zeros_like()?,
                        v: var.zeros_like()?,
                    }
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            gradients: GradientSum::new(parameters.len()),
            parameters,
            moments,
            config: config.clone(),
            steps: 0,
        })
    }

    /// Runs the backward pass of `loss` and adds its gradients to those of the step.
    pub fn accumulate(&mut self, loss: &Tensor) -> Result<()> {
        self.gradients.add(&self.parameters, loss.backward()?)
    }

    /// The norm of the gradients that the step has gathered so far.
    pub fn gradient_norm(&self) -> Result<f64> {
        self.gradients.norm()
    }

    /// Clips by this optimizer's own norm and updates the parameters; returns the norm before clipping.
    ///
    /// # Errors
    /// A norm that is not finite; no parameter is touched then.
    pub fn clip_and_step(&mut self, lr: f64) -> Result<f64> {
        let norm = self.gradient_norm()?;
        if !norm.is_finite() {
            return Err(Error::internal(format!("the gradient norm is {norm}")));
        }
        self.step(lr, self.config.clip_factor(norm))?;
        Ok(norm)
    }

    /// Updates the parameters with the gathered gradients times `scale`, and forgets the gradients. A parameter that no
    /// loss reached is left alone, as in PyTorch.
    pub fn step(&mut self, lr: f64, scale: f64) -> Result<()> {
        self.steps += 1;
        let config = &self.config;
        let t = self.steps as f64;
        for (i, (_, var)) in self.parameters.iter().enumerate() {
            let Some(gradient) = self.gradients.get(i) else {
                continue;
            };
            let decays = config.decay_vectors || var.rank() > 1;
            let update = Update {
                keep: 1.0 - lr * if decays { config.weight_decay } else { 0.0 },
                beta1: config.beta1,
                beta2: config.beta2,
                eps: config.eps,
                step_size: lr / (1.0 - config.beta1.powf(t)),
                root_correction: (1.0 - config.beta2.powf(t)).sqrt(),
                scale,
            };
            match &mut self.moments[i] {
                Moments::Host { m, v } => var.inplace_op2(
                    gradient,
                    &Fused {
                        moments: Mutex::new((m, v)),
                        update,
                    },
                )?,
                Moments::Device { m, v } => update.on_device(var, gradient, m, v)?,
            }
        }
        self.gradients.clear();
        Ok(())
    }

    /// How many steps have been taken; part of the state, for the bias correction depends on it.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The moments as tensors in the parameters' shapes, `<name>.exp_avg` and `<name>.exp_avg_sq` as PyTorch calls them.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let mut state = Vec::with_capacity(2 * self.parameters.len());
        for ((name, var), moments) in self.parameters.iter().zip(&self.moments) {
            let (m, v) = match moments {
                Moments::Host { m, v } => (
                    Tensor::from_slice(m, var.shape(), var.device())?,
                    Tensor::from_slice(v, var.shape(), var.device())?,
                ),
                Moments::Device { m, v } => (m.clone(), v.clone()),
            };
            state.push((format!("{name}.exp_avg"), m));
            state.push((format!("{name}.exp_avg_sq"), v));
        }
        Ok(state)
    }

    /// Puts back what [`AdamW::state`] and [`AdamW::steps`] gave.
    ///
    /// # Errors
    /// A moment that is missing or has another shape.
    pub fn load_state(&mut self, steps: u64, state: &[(String, Tensor)]) -> Result<()> {
        let find = |name: String, var: &Var| {
            let (_, tensor) = state
                .iter()
                .find(|(other, _)| *other == name)
                .ok_or_else(|| Error::input(format!("the optimizer state lacks {name}")))?;
            if tensor.shape() != var.shape() {
                return Err(Error::input(format!(
                    "the optimizer state holds {name} as {:?}; the parameter is {:?}",
                    tensor.shape(),
                    var.shape()
                )));
            }
            Ok(tensor.to_device(var.device())?.to_dtype(DType::F32)?)
        };
        for ((name, var), moments) in self.parameters.iter().zip(&mut self.moments) {
            let new_m = find(format!("{name}.exp_avg"), var)?;
            let new_v = find(format!("{name}.exp_avg_sq"), var)?;
            match moments {
                Moments::Host { m, v } => {
                    *m = new_m.flatten_all()?.to_vec1()?;
                    *v = new_v.flatten_all()?.to_vec1()?;
                }
                Moments::Device { m, v } => (*m, *v) = (new_m, new_v),
            }
        }
        self.steps = steps;
        Ok(())
    }
}

/// The numbers of one step for one parameter.
struct Update {
    /// 1 − lr·λ.
    keep: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    /// lr / (1 − β₁ᵗ).
    step_size: f64,
    /// √(1 − β₂ᵗ).
    root_correction: f64,
    /// The clipping factor.
    scale: f64,
}

impl Update {
    fn on_device(&self, p: &Var, g: &Tensor, m: &mut Tensor, v: &mut Tensor) -> Result<()> {
        let g = (g * self.scale)?;
        *m = ((&*m * self.beta1)? + (&g * (1.0 - self.beta1))?)?;
        *v = ((&*v * self.beta2)? + (g.sqr()? * (1.0 - self.beta2))?)?;
        let denominator = ((v.sqrt()? / self.root_correction)? + self.eps)?;
        let step = ((&*m / denominator)? * self.step_size)?;
        p.set(&((p.as_tensor() * self.keep)? - step)?)?;
        Ok(())
    }

    fn on_chunk(&self, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        let (keep, scale, eps) = (self.keep as f32, self.scale as f32, self.eps as f32);
        let (beta1, beta2) = (self.beta1 as f32, self.beta2 as f32);
        let (rest1, rest2) = ((1.0 - self.beta1) as f32, (1.0 - self.beta2) as f32);
        let (step_size, root) = (self.step_size as f32, self.root_correction as f32);
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let g = g * scale;
            *m = beta1 * *m + rest1 * g;
            *v = beta2 * *v + rest2 * g * g;
            *p = *p * keep - step_size * (*m / (v.sqrt() / root + eps));
        }
    }
}

/// The fused pass. candle lets one operand be written, so the moments travel inside the operation.
struct Fused<'a> {
    moments: Mutex<(&'a mut Vec<f32>, &'a mut Vec<f32>)>,
    update: Update,
}

impl InplaceOp2 for Fused<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        p: &mut CpuStorage,
        p_layout: &Layout,
        g: &CpuStorage,
        g_layout: &Layout,
    ) -> CandleResult<()> {
        let (p, g) = (slice_mut(p, p_layout)?, slice(g, g_layout)?);
        let mut moments = self
            .moments
            .lock()
            .expect("invariant: the operation runs once, on one thread");
        let (m, v) = &mut *moments;
        p.par_chunks_mut(CHUNK)
            .zip(g.par_chunks(CHUNK))
            .zip(m.par_chunks_mut(CHUNK))
            .zip(v.par_chunks_mut(CHUNK))
            .for_each(|(((p, g), m), v)| self.update.on_chunk(p, g, m, v));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::train::gradients::surrogate;

    fn parameters() -> Vec<(String, Var)> {
        let w = Var::from_slice(&[0.5f32, -1.0, 2.0, 0.25], (2, 2), &Device::Cpu).unwrap();
        let b = Var::from_slice(&[0.1f32, -0.2], 2, &Device::Cpu).unwrap();
        vec![("w".into(), w), ("b".into(), b)]
    }

    fn config() -> OptimizerConfig {
        OptimizerConfig {
            beta2: 0.95,
            eps: 1e-5,
            weight_decay: 0.1,
            ..OptimizerConfig::default()
        }
    }

    /// The loss of step t whose gradients are those of the script below.
    fn loss(parameters: &[(String, Var)], t: usize) -> Tensor {
        let w: Vec<f32> = [0.3f32, -0.7, 1.5, 0.01]
            .iter()
            .map(|g| g * (t as f32 - 1.5))
            .collect();
        let b: Vec<f32> = [2.0f32, -0.5]
            .iter()
            .map(|g| g / (t as f32 + 1.0))
            .collect();
        (surrogate(&parameters[0].1, &w).unwrap() + surrogate(&parameters[1].1, &b).unwrap())
            .unwrap()
    }

    fn values(parameters: &[(String, Var)]) -> Vec<f32> {
        parameters
            .iter()
            .flat_map(|(_, var)| var.flatten_all().unwrap().to_vec1::<f32>().unwrap())
            .collect()
    }

    fn close(left: &[f32], right: &[f32], tolerance: f32) {
        assert_eq!(left.len(), right.len());
        for (l, r) in left.iter().zip(right) {
            assert!((l - r).abs() <= tolerance, "{left:?} against {right:?}");
        }
    }

    // import torch
    // w = torch.nn.Parameter(torch.tensor([[0.5, -1.0], [2.0, 0.25]]))
    // b = torch.nn.Parameter(torch.tensor([0.1, -0.2]))
    // opt = torch.optim.AdamW([{"params": [w], "weight_decay": 0.1}, {"params": [b], "weight_decay": 0.0}],
    //                         lr=0.01, betas=(0.9, 0.95), eps=1e-5)
    // for t in range(5):
    //     w.grad = torch.tensor([[0.3, -0.7], [1.5, 0.01]]) * (t - 1.5)
    //     b.grad = torch.tensor([2.0, -0.5]) / (t + 1)
    //     print(torch.nn.utils.clip_grad_norm_([w, b], 1.0).item()); opt.step()
    // print(w.data.flatten().tolist(), b.data.tolist())
    const NORMS: [f64; 5] = [
        3.258_485_078_8,
        1.330_422_878_3,
        1.086_161_732_7,
        2.575_529_098_5,
        4.225_887_298_6,
    ];
    const AFTER: [f32; 6] = [
        0.512_911_9,
        -1.010_417_7,
        2.005_427_8,
        0.264_123_77,
        0.052_739_225,
        -0.152_741_57,
    ];

    #[test]
    fn five_clipped_steps_agree_with_pytorch() {
        let parameters = parameters();
        let mut optimizer = AdamW::new(parameters.clone(), &config()).unwrap();
        for (t, expected) in NORMS.iter().enumerate() {
            optimizer.accumulate(&loss(&parameters, t)).unwrap();
            let norm = optimizer.clip_and_step(0.01).unwrap();
            assert!((norm - expected).abs() < 1e-6, "{norm} against {expected}");
        }
        close(&values(&parameters), &AFTER, 2e-7);
    }

    #[test]
    fn the_tensor_path_agrees_with_the_fused_pass() {
        let parameters = parameters();
        let mut optimizer = AdamW::new(parameters.clone(), &config()).unwrap();
        for ((_, var), moments) in parameters.iter().zip(&mut optimizer.moments) {
            *moments = Moments::Device {
                m: var.zeros_like().unwrap(),
                v: var.zeros_like().unwrap(),
            };
        }
        for t in 0..5 {
            optimizer.accumulate(&loss(&parameters, t)).unwrap();
            optimizer.clip_and_step(0.01).unwrap();
        }
        close(&values(&parameters), &AFTER, 2e-7);
    }

    #[test]
    fn a_saved_state_goes_on_with_the_same_bits() {
        let straight = parameters();
        let mut optimizer = AdamW::new(straight.clone(), &config()).unwrap();
        let mut saved = None;
        for t in 0..5 {
            if t == 2 {
                let copy: Vec<(String, Var)> = straight
                    .iter()
                    .map(|(name, var)| {
                        (
                            name.clone(),
                            Var::from_tensor(&var.copy().unwrap()).unwrap(),
                        )
                    })
                    .collect();
                saved = Some((copy, optimizer.steps(), optimizer.state().unwrap()));
            }
            optimizer.accumulate(&loss(&straight, t)).unwrap();
            optimizer.clip_and_step(0.01).unwrap();
        }
        let (resumed, steps, state) = saved.unwrap();
        let mut optimizer = AdamW::new(resumed.clone(), &config()).unwrap();
        optimizer.load_state(steps, &state).unwrap();
        for t in 2..5 {
            optimizer.accumulate(&loss(&resumed, t)).unwrap();
            optimizer.clip_and_step(0.01).unwrap();
        }
        assert_eq!(values(&straight), values(&resumed));
        let error = optimizer.load_state(1, &state[1..]).unwrap_err();
        assert!(error.to_string().contains("lacks w.exp_avg"), "{error}");
    }

    #[test]
    fn a_gradient_that_is_not_finite_touches_nothing() {
        let parameters = parameters();
        let mut optimizer = AdamW::new(parameters.clone(), &config()).unwrap();
        let before = values(&parameters);
        optimizer
            .accumulate(&surrogate(&parameters[1].1, &[f32::NAN, 0.0]).unwrap())
            .unwrap();
        assert!(optimizer.clip_and_step(0.01).is_err());
        assert_eq!(values(&parameters), before);
    }

    #[test]
    fn refuses_constants_outside_their_range() {
        let config = OptimizerConfig {
            beta1: 1.0,
            ..OptimizerConfig::default()
        };
        assert!(
            config
                .validate("sft.optimizer")
                .unwrap_err()
                .to_string()
                .contains("sft.optimizer.beta1: 1")
        );
    }
}
