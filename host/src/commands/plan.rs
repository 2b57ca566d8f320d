//! `finegrain plan`: how much memory a run takes at most, and what would make it fit.

use std::num::NonZeroUsize;
use std::path::Path;
use std::thread;

use crate::cli::PlanArgs;
use crate::commands::{TABLE_WIDTH, emit, emit_json, foresee};
use crate::config::{self, Config, Task};
use crate::data::tokenizer;
use crate::device::{DeviceKind, Dtype};
use crate::error::{Error, Result};
use crate::memory_plan::{self, Limits, Machine, Needs, Question, machine};
use crate::model::{CausalLmConfig, checkpoint};
use crate::plugins::{PluginSearch, Registry};
use crate::sandbox;

/// What a GPU is taken to have unless the user says otherwise.
const GPU_MEMORY: u64 = 80 << 30;

pub(super) fn plan(args: &PlanArgs) -> Result<()> {
    let config = config::load(&args.config, &args.sets)?;
    let model = sizes(&config)?;
    let needs = needs(args, &config)?;
    let limits = Limits {
        prompt: args.prompt_tokens,
        response: args.response_tokens,
    };
    let question = Question::new(config.clone(), model, needs, machine(args, &config), limits)?;
    let plan = memory_plan::plan(&question)?;
    if rows_are_here(&config) {
        foresee(&config)?;
    }
    if args.json {
        emit_json(&plan)?;
    } else {
        emit(&memory_plan::table(&plan, TABLE_WIDTH))?;
    }
    if plan.fits != Some(false) {
        return Ok(());
    }
    let error = Error::gate(format!("the run does not fit. {}", plan.verdict()));
    Err(match plan.remedies.iter().find(|remedy| remedy.fits) {
        Some(remedy) => error.hint(format!("enough would be {}", remedy.typed())),
        None => error.hint("a smaller model, shorter rows or a larger device"),
    })
}

/// The sizes of the model that SFT starts from.
fn sizes(config: &Config) -> Result<CausalLmConfig> {
    match (&config.model.path, config.task) {
        (Some(path), _) => checkpoint::sizes(path).map_err(|error| error.context("model.path")),
        (None, Task::Sandbox) => Ok(config.sandbox.model.model_config(&sandbox::tokenizer()?)),
        (None, Task::EditPairs | Task::Preferences) => {
            Err(Error::input("model.path: no model is named"))
        }
    }
}

/// Whether a file of data and a tokenizer are there to measure rows with. A plan needs neither: sizes are enough.
fn rows_are_here(config: &Config) -> bool {
    let data = config.data.as_ref().is_some_and(|data| data.path.is_file());
    let tokenizer = |path: &Path| path.is_file() || path.join(tokenizer::FILE).is_file();
    data && config.model.path.as_deref().is_some_and(tokenizer)
}

/// What the plugins of the configuration ask for.
fn needs(args: &PlanArgs, config: &Config) -> Result<Needs> {
    let registry = Registry::load(&PluginSearch {
        paths: [args.plugins.as_slice(), &config.plugins.paths].concat(),
        use_environment: true,
        allow: config.plugins.allow.clone(),
    })?;
    let advantage = &config.advantage;
    let estimator = registry.advantage(&advantage.plugin, &advantage.options)?;
    let reward_models = config
        .reward
        .iter()
        .map(|choice| {
            let scheme = registry.reward(&choice.plugin, &choice.options)?;
            Ok(scheme.capabilities().needs_reward_model)
        })
        .collect::<Result<_>>()?;
    Ok(Needs {
        critic: estimator.capabilities().needs_critic,
        reward_models,
    })
}

fn machine(args: &PlanArgs, config: &Config) -> Machine {
    let kind = args.device.unwrap_or(config.device.kind);
    let threads = match config.threads {
        0 => thread::available_parallelism().map_or(1, NonZeroUsize::get),
        threads => threads,
    };
    let (dtype, memory) = match kind {
        DeviceKind::Cuda => (config.device.dtype, Some(GPU_MEMORY)),
        DeviceKind::Cpu => (Dtype::F32, machine::memory_of_this_machine()),
    };
    Machine {
        kind,
        dtype,
        threads: threads as u64,
        memory: args.device_memory.or(memory),
        memory_given: args.device_memory.is_some(),
    }
}
