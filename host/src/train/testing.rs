//! What the tests of training share: a tiny model, a rule that needs no reward model, an observer that remembers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use finegrain_sdk::info::Capabilities;
use finegrain_sdk::kinds::{RewardScheme, Rollouts};
use finegrain_sdk::rng::Stream;
use finegrain_sdk::schemars::{self, JsonSchema};
use finegrain_sdk::{CallContext, Plugin, PluginInfo, register};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::device::Device;
use crate::error::Result;
use crate::model::{CausalLm, CausalLmConfig, Family, Trainable, Variant};
use crate::pipeline::checkpoints::Checkpoints;
use crate::pipeline::context::{Observer, StageContext};
use crate::plugins::instance::{AdvantageInstance, RewardInstance};
use crate::plugins::registry::Registry;

/// One layer of 16 channels over 12 ids; 1 is BOS, 2 is EOS.
pub(super) fn model(seed: u64) -> CausalLm {
    let config = CausalLmConfig {
        family: Family::Llama,
        vocab_size: 12,
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 8,
        max_position_embeddings: 64,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        tie_word_embeddings: true,
        bos_token_id: Some(1),
        eos_token_id: vec![EOS],
        variant: Variant::default(),
    };
    CausalLm::new(config, &Stream::new(seed)).unwrap()
}

/// The id that ends a response of [`model`].
pub(super) const EOS: u32 = 2;

/// Every trained value, in order.
pub(super) fn weights(model: &impl Trainable) -> Vec<f32> {
    let sets = model.parameter_sets().into_iter();
    sets.flat_map(|(set, count)| set.values().unwrap()[..count].to_vec())
        .collect()
}

/// Ids as text, one letter an id.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the signature of a decoder, which may fail"
)]
pub(super) fn decode(_: &[u32], ids: &[u32]) -> Result<String> {
    Ok(ids.iter().map(|&id| char::from(b'a' + id as u8)).collect())
}

/// The id that [`Fives`] wants.
pub(super) const WANTED: u32 = 5;

#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoOptions {}

/// A rule: 1 for every token with the id [`WANTED`].
struct Fives;

impl Plugin for Fives {
    const NAME: &'static str = "test-fives";
    type Options = NoOptions;

    fn info() -> PluginInfo {
        PluginInfo {
            capabilities: Capabilities {
                needs_reward_model: false,
                ..Capabilities::default()
            },
            ..PluginInfo::default()
        }
    }

    fn new(_: NoOptions) -> finegrain_sdk::Result<Self> {
        Ok(Self)
    }
}

impl RewardScheme for Fives {
    fn sequence_reward(
        &self,
        rollouts: &Rollouts<'_>,
        rewards: &mut [f32],
        _: &CallContext<'_>,
    ) -> finegrain_sdk::Result<()> {
        for (reward, ids) in rewards.iter_mut().zip(rollouts.ids.iter()) {
            *reward = ids.iter().filter(|&&id| id == WANTED).count() as f32;
        }
        Ok(())
    }

    fn token_rewards(
        &self,
        rollouts: &Rollouts<'_>,
        rewards: &mut [f32],
        _: &CallContext<'_>,
    ) -> finegrain_sdk::Result<()> {
        for (reward, &id) in rewards.iter_mut().zip(rollouts.ids.values()) {
            *reward = f32::from(id == WANTED);
        }
        Ok(())
    }
}

register!(RewardScheme, Fives);

pub(super) fn reward(name: &str, options: &Value) -> RewardInstance {
    Registry::built_in().unwrap().reward(name, options).unwrap()
}

pub(super) fn gae() -> AdvantageInstance {
    Registry::built_in()
        .unwrap()
        .advantage("gae", &Value::Null)
        .unwrap()
}

/// Keeps every metric by step.
#[derive(Default)]
pub(super) struct Recorder(Mutex<Vec<(u64, BTreeMap<String, f64>)>>);

impl Observer for Recorder {
    fn metrics(&self, step: u64, values: &[(&str, f64)]) {
        let line = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect();
        self.0.lock().unwrap().push((step, line));
    }

    fn progress(&self, _: u64, _: u64, _: &str) {}

    fn warn(&self, message: &str) {
        panic!("unexpected warning: {message}");
    }
}

impl Recorder {
    /// All values of a metric, in order.
    pub(super) fn all(&self, name: &str) -> Vec<f64> {
        let lines = self.0.lock().unwrap();
        lines
            .iter()
            .filter_map(|(_, line)| line.get(name).copied())
            .collect()
    }

    /// Everything but what the clock decides.
    pub(super) fn timeless(&self) -> Vec<(u64, BTreeMap<String, f64>)> {
        let mut lines = self.0.lock().unwrap().clone();
        for (_, line) in &mut lines {
            line.retain(|name, _| !name.contains("second"));
        }
        lines
    }
}

/// A context with the given seed.
pub(super) fn context<'a>(
    seed: u64,
    cancel: &'a AtomicBool,
    observer: &'a dyn Observer,
) -> StageContext<'a> {
    StageContext {
        device: &Device::Cpu,
        stream: Stream::new(seed),
        threads: 2,
        cancel,
        observer,
        dir: Path::new("."),
        checkpoints: Checkpoints::none(),
        answers: None,
    }
}
