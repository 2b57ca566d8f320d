//! AdamW (Loshchilov and Hutter, 2019) with the arithmetic of `torch.optim.AdamW`, and clipping by the global norm.
//!
//! ```text
//! p ← p · (1 − lr·λ)
//! m ← β₁·m + (1 − β₁)·g        v ← β₂·v + (1 − β₂)·g²
//! p ← p − lr/(1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
//! ```
//! One pass over the parameters reads and writes p, m, v and g: the clipping factor is folded in, and the gradients are zero
//! behind it.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(all(test, feature = "cuda"))]
mod cuda_tests;
mod moments;

use self::moments::{Moments, Values};
use crate::error::{Error, Result};
use crate::model::gradients::CHUNK;
use crate::model::{Gradients, Trainable};
use crate::pipeline::checkpoints::{Part, Saved};
use crate::telemetry::NotFinite;

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

/// AdamW over a model's parameters, with the sum of the gradients of the step that is being prepared.
#[derive(Debug)]
pub struct AdamW {
    moments: Vec<Moments>,
    gradients: Gradients,
    config: OptimizerConfig,
    steps: u64,
}

impl AdamW {
    /// An optimizer with zero moments for the parameters of a model.
    ///
    /// # Errors
    /// No memory on the device.
    pub fn new(model: &impl Trainable, config: &OptimizerConfig) -> Result<Self> {
        let sets = model.parameter_sets().into_iter();
        Ok(Self {
            moments: sets
                .map(|(set, count)| Moments::zeros(set, count, config))
                .collect::<Result<_>>()?,
            gradients: Gradients::zeros(model)?,
            config: config.clone(),
            steps: 0,
        })
    }

    /// The gradients of the step, to which backward passes add.
    pub fn gradients(&mut self) -> &mut Gradients {
        &mut self.gradients
    }

    /// The norm of the gradients that the step has gathered so far.
    ///
    /// # Errors
    /// Work on the device that failed.
    pub fn gradient_norm(&self) -> Result<f64> {
        self.gradients.norm()
    }

    /// Clips by this optimizer's own norm and updates the model's parameters; returns the norm before clipping.
    ///
    /// # Errors
    /// A norm that is not finite; no parameter is touched then.
    pub fn clip_and_step(&mut self, model: &mut impl Trainable, lr: f64) -> Result<f64> {
        let norm = self.gradient_norm()?;
        if !norm.is_finite() {
            return Err(Error::internal(format!("the gradient norm is {norm}"))
                .with_not_finite(NotFinite::batch("the gradient norm", &[])));
        }
        self.step(model, lr, self.config.clip_factor(norm))?;
        Ok(norm)
    }

    /// Updates the parameters of the model that the optimizer was made for with the gathered gradients times `scale`, and
    /// sets the gradients to zero.
    ///
    /// # Errors
    /// A device that fails.
    pub fn step(&mut self, model: &mut impl Trainable, lr: f64, scale: f64) -> Result<()> {
        self.steps += 1;
        let config = &self.config;
        let t = self.steps as f64;
        let update = |decays: bool| Update {
            keep: (1.0 - lr * if decays { config.weight_decay } else { 0.0 }) as f32,
            beta1: config.beta1 as f32,
            beta2: config.beta2 as f32,
            rest1: (1.0 - config.beta1) as f32,
            rest2: (1.0 - config.beta2) as f32,
            eps: config.eps as f32,
            step_size: (lr / (1.0 - config.beta1.powf(t))) as f32,
            root_correction: (1.0 - config.beta2.powf(t)).sqrt() as f32,
            scale: scale as f32,
        };
        let sets = model.parameter_sets_mut().into_iter();
        for (index, (set, moments)) in sets.zip(&mut self.moments).enumerate() {
            let runs = moments.runs.iter().scan(0, |start, &(count, decays)| {
                let run = *start..*start + count;
                *start = run.end;
                Some((run, update(decays)))
            });
            match &mut moments.values {
                Values::Host([m, v]) => {
                    let (p, g) = (set.host_mut(), self.gradients.part(index));
                    for (run, update) in runs {
                        p[run.clone()]
                            .par_chunks_mut(CHUNK)
                            .zip(g[run.clone()].par_chunks_mut(CHUNK))
                            .zip(m[run.clone()].par_chunks_mut(CHUNK))
                            .zip(v[run].par_chunks_mut(CHUNK))
                            .for_each(|(((p, g), m), v)| update.on_chunk(p, g, m, v));
                    }
                }
                #[cfg(feature = "cuda")]
                Values::Device([m, v]) => {
                    let gpu = m.gpu().clone();
                    let mut p = set.train_on(&gpu)?;
                    let mut g = self.gradients.on_gpu(index);
                    for (run, update) in runs {
                        let moments = (m.part_mut(run.clone()), v.part_mut(run.clone()));
                        cuda::step(&gpu, &mut p, &mut g, moments, run, &update)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// How many steps have been taken; part of the state, for the bias correction depends on it.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The moments, set by set, as `PREFIX.exp_avg.0`, `PREFIX.exp_avg_sq.0`, … (PyTorch's names).
    ///
    /// # Errors
    /// Work on the device that failed.
    pub fn parts(&self, prefix: &str) -> Result<Vec<Part<'_>>> {
        let mut parts = Vec::new();
        for (at, moments) in self.moments.iter().enumerate() {
            let [m, v] = moments.values.get()?;
            parts.push(Part::floats(format!("{prefix}.exp_avg.{at}"), m));
            parts.push(Part::floats(format!("{prefix}.exp_avg_sq.{at}"), v));
        }
        Ok(parts)
    }

    /// Puts back what [`AdamW::steps`] and [`AdamW::parts`] gave.
    ///
    /// # Errors
    /// A checkpoint that lacks a moment or holds one of another length.
    pub fn restore(&mut self, prefix: &str, steps: u64, saved: &Saved) -> Result<()> {
        for (at, moments) in self.moments.iter_mut().enumerate() {
            for (index, name) in ["exp_avg", "exp_avg_sq"].into_iter().enumerate() {
                let name = format!("{prefix}.{name}.{at}");
                moments.values.set(index, |into| saved.read(&name, into))?;
            }
        }
        self.steps = steps;
        Ok(())
    }
}

/// The numbers of one step.
struct Update {
    /// 1 − lr·λ.
    keep: f32,
    beta1: f32,
    beta2: f32,
    /// 1 − β₁.
    rest1: f32,
    /// 1 − β₂.
    rest2: f32,
    eps: f32,
    /// lr / (1 − β₁ᵗ).
    step_size: f32,
    /// √(1 − β₂ᵗ).
    root_correction: f32,
    /// The clipping factor.
    scale: f32,
}

impl Update {
    fn on_chunk(&self, p: &mut [f32], g: &mut [f32], m: &mut [f32], v: &mut [f32]) {
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let scaled = *g * self.scale;
            *g = 0.0;
            *m = self.beta1 * *m + self.rest1 * scaled;
            *v = self.beta2 * *v + self.rest2 * scaled * scaled;
            let denominator = v.sqrt() / self.root_correction + self.eps;
            *p = *p * self.keep - self.step_size * (*m / denominator);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parameters::ParameterSet;
    use crate::pipeline::checkpoints::{
        CheckpointConfig, Checkpoints, Snapshot, parameters, restore_parameters,
    };

    #[derive(Clone)]
    struct Two(ParameterSet);

    impl Trainable for Two {
        fn parameter_sets(&self) -> Vec<(&ParameterSet, usize)> {
            vec![(&self.0, self.0.len())]
        }

        fn parameter_sets_mut(&mut self) -> Vec<&mut ParameterSet> {
            vec![&mut self.0]
        }
    }

    fn model() -> Two {
        let shapes = [("w".to_owned(), vec![2, 2]), ("b".to_owned(), vec![2])];
        let set = ParameterSet::new(shapes, |name, _| {
            Ok(if name == "w" {
                vec![0.5, -1.0, 2.0, 0.25]
            } else {
                vec![0.1, -0.2]
            })
        });
        Two(set.unwrap())
    }

    fn config() -> OptimizerConfig {
        OptimizerConfig {
            beta2: 0.95,
            eps: 1e-5,
            weight_decay: 0.1,
            ..OptimizerConfig::default()
        }
    }

    /// The gradients of step t of the script below.
    fn gather(optimizer: &mut AdamW, t: usize) {
        let w = [0.3f32, -0.7, 1.5, 0.01].map(|g| g * (t as f32 - 1.5));
        let b = [2.0f32, -0.5].map(|g| g / (t as f32 + 1.0));
        let sums = optimizer.gradients().part(0).iter_mut();
        sums.zip(w.into_iter().chain(b))
            .for_each(|(sum, g)| *sum += g);
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
        let mut model = model();
        let mut optimizer = AdamW::new(&model, &config()).unwrap();
        for (t, expected) in NORMS.iter().enumerate() {
            gather(&mut optimizer, t);
            let norm = optimizer.clip_and_step(&mut model, 0.01).unwrap();
            assert!((norm - expected).abs() < 1e-6, "{norm} against {expected}");
        }
        close(&model.0.values().unwrap(), &AFTER, 2e-7);
    }

    #[test]
    fn without_decay_matrices_and_vectors_are_one_run() {
        let plain = OptimizerConfig::default();
        assert_eq!(
            AdamW::new(&model(), &plain).unwrap().moments[0].runs,
            [(6, false)]
        );
        let runs = [(4, true), (2, false)];
        assert_eq!(
            AdamW::new(&model(), &config()).unwrap().moments[0].runs,
            runs
        );
    }

    #[test]
    fn a_saved_state_goes_on_with_the_same_bits() {
        let mut straight = model();
        let mut optimizer = AdamW::new(&straight, &config()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            Checkpoints::open(folder.path(), &CheckpointConfig::default(), &|text| {
                panic!("{text}")
            })
        };
        for t in 0..5 {
            if t == 2 {
                let mut parts = parameters("model", &straight).unwrap();
                parts.extend(optimizer.parts("optimizer").unwrap());
                let state = optimizer.steps();
                let snapshot = Snapshot { state, parts };
                open().unwrap().save(2, folder.path(), snapshot).unwrap();
            }
            gather(&mut optimizer, t);
            optimizer.clip_and_step(&mut straight, 0.01).unwrap();
        }
        let checkpoints = open().unwrap();
        let (steps, saved) = checkpoints.resume::<u64>().unwrap().unwrap();
        let mut resumed = model();
        restore_parameters("model", &mut resumed, saved).unwrap();
        let mut optimizer = AdamW::new(&resumed, &config()).unwrap();
        optimizer.restore("optimizer", steps, saved).unwrap();
        for t in 2..5 {
            gather(&mut optimizer, t);
            optimizer.clip_and_step(&mut resumed, 0.01).unwrap();
        }
        assert_eq!(straight.0.values().unwrap(), resumed.0.values().unwrap());
        assert_eq!(optimizer.steps(), 5);
        let error = optimizer.restore("other", 1, saved).unwrap_err();
        assert!(
            error.to_string().contains("it lacks other.exp_avg.0"),
            "{error}"
        );
    }

    #[test]
    fn a_gradient_that_is_not_finite_touches_nothing() {
        let mut model = model();
        let mut optimizer = AdamW::new(&model, &config()).unwrap();
        let before = model.0.values().unwrap().to_vec();
        optimizer.gradients().part(0)[4] = f32::NAN;
        assert!(optimizer.clip_and_step(&mut model, 0.01).is_err());
        assert_eq!(model.0.values().unwrap()[..], before);
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
