//! Every convention of PPO as a key. docs/ppo.md has the equations, and the presets side by side.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kl::{KlAdaptation, KlController, KlEstimator, KlPlacement};
use super::losses::LossAverage;
use super::reward_scale::RewardScale;
use super::rewards::MissingEos;
use super::whiten::Whitening;
use crate::error::{Error, Result};
use crate::train::adamw::OptimizerConfig;
use crate::train::sampling::SamplingConfig;
use crate::train::schedule::{Decay, ScheduleConfig};

/// How the critic's head starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CriticHead {
    /// Zero weight and bias: every value starts at 0 (AlpacaFarm).
    #[default]
    Zero,
    /// The reward model's own head (TRL). Zero where there is no reward model.
    RewardModel,
}

/// Whose conventions fill what a configuration does not say. γ and λ are options of the advantage estimator, which no
/// preset sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PpoPreset {
    /// The defaults of this reference.
    #[default]
    Finegrain,
    /// AlpacaFarm's, with γ = λ = 1.
    Alpacafarm,
    /// TRL's, with γ = 1 and λ = 0.95.
    Trl,
}

impl PpoPreset {
    /// Every key as this preset has it.
    pub fn config(self) -> PpoConfig {
        match self {
            Self::Finegrain => PpoConfig::default(),
            Self::Alpacafarm => PpoConfig::alpacafarm(),
            Self::Trl => PpoConfig::trl(),
        }
    }
}

/// PPO. A *step* is one rollout and the updates on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PpoConfig {
    /// Whose conventions fill the keys of `[ppo]` and its tables that neither the files nor `--set` give: `finegrain` (the
    /// defaults here), `alpacafarm` or `trl`; docs/ppo.md has them side by side. γ and λ are options of the advantage
    /// estimator, and no preset sets them: both are 1 in AlpacaFarm, λ is 0.95 in TRL.
    pub preset: PpoPreset,
    /// Steps of the run. AlpacaFarm: 390 (10 passes over 20k prompts, 512 a step), its best checkpoints lie at 20 to 80.
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// Responses per step, over all prompts; a multiple of `samples_per_prompt` and of `minibatch_rows`. AlpacaFarm: 512.
    #[schemars(range(min = 1))]
    pub rollout_rows: usize,
    /// Responses per prompt; group-relative estimators need at least two. AlpacaFarm and TRL's PPO: 1.
    #[schemars(range(min = 1))]
    pub samples_per_prompt: usize,
    /// Passes over a rollout. AlpacaFarm: 2; TRL: 4.
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// Responses per optimizer step. AlpacaFarm: 256; TRL: the whole rollout.
    #[schemars(range(min = 1))]
    pub minibatch_rows: usize,
    /// Tokens that go through a model together; decides memory, not results (gradients add up). 0 = all.
    pub micro_batch_tokens: usize,
    /// How responses are sampled. Log-probabilities are taken at its temperature, and without its top-k and top-p, which
    /// only change what is drawn: restricting them biases the ratios and can make the KL negative.
    pub sampling: SamplingConfig,

    /// Peak learning rate of the policy. AlpacaFarm: 1e-5; TRL: 3e-6.
    #[schemars(range(min = 0.0))]
    pub learning_rate: f64,
    /// Peak learning rate of the critic. AlpacaFarm and TRL: the policy's.
    #[schemars(range(min = 0.0))]
    pub critic_learning_rate: f64,
    /// Warm-up and decay, one tick per step.
    pub schedule: ScheduleConfig,
    /// AdamW of policy and critic.
    pub optimizer: OptimizerConfig,
    /// Whether the gradients of policy and critic are clipped by their common norm (AlpacaFarm has one optimizer for both)
    /// or each by its own.
    pub clip_jointly: bool,

    /// β, the coefficient of the KL divergence from the reference. AlpacaFarm: 0.0067 for simulated preferences (with
    /// `k1-clamped`; it does not compare with an unbiased estimator's), 0.02 for human ones; TRL: 0.05.
    #[schemars(range(min = 0.0))]
    pub kl_coef: f64,
    /// The estimator: `k1`, `k2`, `k3`, `abs` or `k1-clamped`.
    pub kl_estimator: KlEstimator,
    /// Where it is charged: `reward`, `loss` or `none`.
    pub kl_placement: KlPlacement,
    /// Whether β adapts: `fixed`, `horizon` or `rate`.
    pub kl_adaptation: KlAdaptation,
    /// The divergence that an adaptive β aims at, in nats per response. AlpacaFarm and Ziegler et al.: 6.
    #[schemars(range(min = 0.0))]
    pub kl_target: f64,
    /// For `horizon`: in responses. Ziegler et al.: 10000.
    #[schemars(range(min = 0.0))]
    pub kl_horizon: f64,
    /// For `rate`: the share of the clipped error by which β moves a step. AlpacaFarm: 0.1.
    #[schemars(range(min = 0.0))]
    pub kl_rate: f64,

    /// The unit of each scheme's rewards: `none` (as given; AlpacaFarm, TRL) or `reference` (a standard deviation of 1 over
    /// the first rollout's responses, as in Ziegler et al., whose β starts at 0.15). Where schemes are compared, `reference`
    /// makes one β mean the same for all.
    pub reward_scale: RewardScale,
    /// Whitening of the total token rewards over the rollout, the mean kept. AlpacaFarm: `population`; TRL: `none`.
    pub reward_whitening: Whitening,
    /// Whitening of the advantages over the rollout, after the returns are taken. AlpacaFarm: `population`; TRL: `sample`.
    pub advantage_whitening: Whitening,
    /// What happens to a response without EOS: `ignore`, `subtract` or `replace`.
    pub missing_eos: MissingEos,
    /// The penalty of `subtract` and `replace`. TRL's docs recommend 1; AlpacaFarm's `replace` has 1.
    #[schemars(range(min = 0.0))]
    pub missing_eos_penalty: f64,

    /// ε below 1: the ratio is clipped at 1 − this. AlpacaFarm and TRL: 0.2.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub clip_range: f64,
    /// ε above 1: the ratio is clipped at 1 + this. AlpacaFarm and TRL: 0.2; DAPO: 0.28.
    #[schemars(range(min = 0.0))]
    pub clip_range_high: f64,
    /// How far a value may move from its old one before its loss is clipped; 0 = no clipping. AlpacaFarm and TRL: 0.2.
    #[schemars(range(min = 0.0))]
    pub value_clip: f64,
    /// The value loss is multiplied by this. AlpacaFarm and TRL: 0.1. Under AdamW it only matters through ε and through
    /// clipping.
    #[schemars(range(min = 0.0))]
    pub value_coef: f64,
    /// Weight of an entropy bonus. AlpacaFarm and TRL: 0.
    #[schemars(range(min = 0.0))]
    pub entropy_coef: f64,
    /// Over what losses are averaged: `tokens`, `rows` or `capacity`.
    pub loss_average: LossAverage,
    /// How the critic's head starts: `zero` or `reward-model`. Its backbone is the first reward model's, or the policy's
    /// where no scheme has one.
    pub critic_head: CriticHead,
}

impl Default for PpoConfig {
    /// Unbiased k1 in the reward, advantages whitened, rewards not; sizes for a small model.
    fn default() -> Self {
        Self {
            preset: PpoPreset::Finegrain,
            steps: 60,
            rollout_rows: 128,
            samples_per_prompt: 1,
            epochs: 2,
            minibatch_rows: 64,
            micro_batch_tokens: 4096,
            sampling: SamplingConfig::default(),
            learning_rate: 1e-5,
            critic_learning_rate: 1e-5,
            schedule: ScheduleConfig {
                decay: Decay::Linear,
                warmup_steps: 5,
                warmup_ratio: 0.0,
            },
            optimizer: OptimizerConfig {
                eps: 1e-5,
                ..OptimizerConfig::default()
            },
            clip_jointly: false,
            kl_coef: 0.05,
            kl_estimator: KlEstimator::K1,
            kl_placement: KlPlacement::Reward,
            kl_adaptation: KlAdaptation::Fixed,
            kl_target: 6.0,
            kl_horizon: 10_000.0,
            kl_rate: 0.1,
            reward_scale: RewardScale::None,
            reward_whitening: Whitening::None,
            advantage_whitening: Whitening::Population,
            missing_eos: MissingEos::Ignore,
            missing_eos_penalty: 1.0,
            clip_range: 0.2,
            clip_range_high: 0.2,
            value_clip: 0.2,
            value_coef: 0.1,
            entropy_coef: 0.0,
            loss_average: LossAverage::Tokens,
            critic_head: CriticHead::Zero,
        }
    }
}

impl PpoConfig {
    /// AlpacaFarm's PPO (`examples/scripts/rlhf_ppo.sh`, `rl/ppo_utils.py`, simulated preferences), its arithmetic on
    /// response tokens. Its γ and λ of 1 belong to the advantage estimator.
    pub fn alpacafarm() -> Self {
        Self {
            preset: PpoPreset::Alpacafarm,
            steps: 390,
            rollout_rows: 512,
            minibatch_rows: 256,
            sampling: SamplingConfig {
                temperature: 1.0,
                max_new_tokens: 300,
                ..SamplingConfig::default()
            },
            clip_jointly: true,
            kl_coef: 0.0067,
            kl_estimator: KlEstimator::K1Clamped,
            reward_whitening: Whitening::Population,
            loss_average: LossAverage::Capacity,
            ..Self::default()
        }
    }

    /// The PPO of TRL 1.10 (`trl/experimental/ppo`), its arithmetic on response tokens. Its γ of 1 and λ of 0.95 belong to
    /// the advantage estimator. It never clips gradients, whatever its `max_grad_norm` says.
    pub fn trl() -> Self {
        Self {
            preset: PpoPreset::Trl,
            rollout_rows: 64,
            epochs: 4,
            minibatch_rows: 64,
            sampling: SamplingConfig {
                temperature: 0.7,
                max_new_tokens: 53,
                ..SamplingConfig::default()
            },
            learning_rate: 3e-6,
            critic_learning_rate: 3e-6,
            schedule: ScheduleConfig::default(),
            optimizer: OptimizerConfig {
                max_grad_norm: 0.0,
                ..OptimizerConfig::default()
            },
            advantage_whitening: Whitening::Sample,
            critic_head: CriticHead::RewardModel,
            ..Self::default()
        }
    }

    /// The controller of β at the start of a run.
    pub fn kl_controller(&self) -> KlController {
        KlController::new(
            self.kl_coef,
            self.kl_adaptation,
            self.kl_target,
            self.kl_horizon,
            self.kl_rate,
        )
    }

    /// Refuses values outside their ranges and sizes that do not divide.
    pub fn validate(&self) -> Result<()> {
        let counts = [
            ("steps", self.steps),
            ("rollout_rows", self.rollout_rows as u64),
            ("samples_per_prompt", self.samples_per_prompt as u64),
            ("epochs", self.epochs as u64),
            ("minibatch_rows", self.minibatch_rows as u64),
        ];
        if let Some((key, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(Error::input(format!(
                "ppo.{key}: 0 is not accepted; at least 1 is"
            )));
        }
        for (key, part) in [
            ("samples_per_prompt", self.samples_per_prompt),
            ("minibatch_rows", self.minibatch_rows),
        ] {
            if !self.rollout_rows.is_multiple_of(part) {
                return Err(Error::input(format!(
                    "ppo.{key}: {part} does not divide ppo.rollout_rows, which is {}",
                    self.rollout_rows
                )));
            }
        }
        if self.reward_scale == RewardScale::Reference && self.rollout_rows < 2 {
            return Err(Error::input(
                "ppo.rollout_rows: 1 is too few for ppo.reward_scale = \"reference\"; a spread needs at least 2",
            ));
        }
        let numbers = [
            ("learning_rate", self.learning_rate),
            ("critic_learning_rate", self.critic_learning_rate),
            ("kl_coef", self.kl_coef),
            ("missing_eos_penalty", self.missing_eos_penalty),
            ("clip_range", self.clip_range),
            ("clip_range_high", self.clip_range_high),
            ("value_clip", self.value_clip),
            ("value_coef", self.value_coef),
            ("entropy_coef", self.entropy_coef),
            ("kl_rate", self.kl_rate),
        ];
        if let Some((key, value)) = numbers.iter().find(|(_, x)| !(*x >= 0.0 && x.is_finite())) {
            return Err(Error::input(format!(
                "ppo.{key}: {value} is not accepted; a finite number of at least 0 is"
            )));
        }
        if self.clip_range > 1.0 {
            return Err(Error::input(format!(
                "ppo.clip_range: {} is above 1; a ratio is never below 0",
                self.clip_range
            )));
        }
        for (key, value) in [
            ("kl_target", self.kl_target),
            ("kl_horizon", self.kl_horizon),
        ] {
            if self.kl_adaptation != KlAdaptation::Fixed && !(value > 0.0 && value.is_finite()) {
                return Err(Error::input(format!(
                    "ppo.{key}: {value} is not accepted; an adaptive KL needs a finite number above 0"
                )));
            }
        }
        self.schedule.validate("ppo.schedule")?;
        self.optimizer.validate("ppo.optimizer")?;
        if self.sampling.temperature == 0.0 {
            return Err(Error::input(
                "ppo.sampling.temperature: 0 is not accepted; PPO needs the log-probabilities of what it samples",
            ));
        }
        self.sampling.validate("ppo.sampling")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_and_the_defaults_are_legal() {
        for config in [
            PpoConfig::default(),
            PpoConfig::alpacafarm(),
            PpoConfig::trl(),
        ] {
            config.validate().unwrap();
        }
    }

    #[test]
    fn presets_survive_their_own_serialisation() {
        for config in [PpoConfig::alpacafarm(), PpoConfig::trl()] {
            let text = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<PpoConfig>(&text).unwrap(), config);
        }
        assert!(serde_json::from_str::<PpoConfig>(r#"{"kl_coeff": 1.0}"#).is_err());
    }

    #[test]
    fn what_cannot_be_run_is_refused_by_key() {
        let refused = |change: fn(&mut PpoConfig), words: &str| {
            let mut config = PpoConfig::default();
            change(&mut config);
            let error = config.validate().unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.exit_code(), 2);
        };
        refused(
            |c| c.minibatch_rows = 48,
            "ppo.minibatch_rows: 48 does not divide",
        );
        refused(|c| c.samples_per_prompt = 0, "ppo.samples_per_prompt: 0");
        refused(|c| c.kl_coef = f64::NAN, "ppo.kl_coef: NaN");
        refused(|c| c.clip_range = 1.5, "ppo.clip_range: 1.5 is above 1");
        refused(
            |c| {
                c.kl_adaptation = KlAdaptation::Rate;
                c.kl_target = 0.0;
            },
            "ppo.kl_target: 0",
        );
        refused(|c| c.optimizer.beta2 = 1.0, "ppo.optimizer.beta2: 1");
    }
}
