//! How models are trained: all weights, or an adapter on frozen weights that all roles share; and how they are saved.

use std::fs;
use std::path::{Path, PathBuf};

use finegrain_sdk::rng::Stream;

use crate::config::ModelConfig;
use crate::data::tokenizer::Tokenizer;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::{CausalLm, ScoredModel};

/// Where, beside a stage's model, the weights under its adapter lie where the stage made them.
const BASE: &str = "base";

/// A model ready to be trained as the configuration says; a fresh adapter is drawn from `stream`.
pub fn ready(mut model: CausalLm, config: &ModelConfig, stream: &Stream) -> Result<CausalLm> {
    model.set_recompute(config.recompute);
    match &config.lora {
        Some(lora) if model.adapter().is_none() => model.with_lora(lora, &stream.child("lora")),
        _ => Ok(model),
    }
}

/// The same for a model with a scalar head.
pub fn ready_scored(
    model: ScoredModel,
    config: &ModelConfig,
    stream: &Stream,
) -> Result<ScoredModel> {
    let backbone = ready(model.backbone, config, stream)?;
    ScoredModel::new(backbone, model.head)
}

/// Puts weights that were never saved beside the folder `dir`, where the adapter on them will be saved.
pub fn keep_base(model: &mut CausalLm, config: &ModelConfig, dir: &Path) -> Result<()> {
    if config.lora.is_none() || config.merge_adapters || model.has_origin() {
        return Ok(());
    }
    let base = dir.with_file_name(BASE);
    make(&base)?;
    model.save(&base)?;
    // The stage's folder moves when it is done: the path is seen from the adapter.
    model.set_origin(PathBuf::from("..").join(BASE));
    Ok(())
}

/// A model that can be saved.
pub trait Save: Sized {
    /// Adapter and weights as one, on the processor: a device has no need of what is only written down.
    fn merged(&self) -> Result<Self>;
    /// Writes the model into a folder.
    fn save(&self, dir: &Path) -> Result<()>;
}

impl Save for CausalLm {
    fn merged(&self) -> Result<Self> {
        self.to(&Device::Cpu)?.merged()
    }

    fn save(&self, dir: &Path) -> Result<()> {
        self.save(dir)
    }
}

impl Save for ScoredModel {
    fn merged(&self) -> Result<Self> {
        self.to(&Device::Cpu)?.merged()
    }

    fn save(&self, dir: &Path) -> Result<()> {
        self.save(dir)
    }
}

/// Saves a trained model with its tokenizer into `dir`, an adapter apart or merged as the configuration says.
pub fn save(
    model: &impl Save,
    tokenizer: &Tokenizer,
    config: &ModelConfig,
    dir: &Path,
) -> Result<()> {
    make(dir)?;
    if config.merge_adapters {
        model.merged()?.save(dir)?;
    } else {
        model.save(dir)?;
    }
    tokenizer.save(dir)
}

fn make(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|error| Error::io("make", dir, &error))
}
