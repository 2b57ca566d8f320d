//! The SFT stage: the base model, fine-tuned on the demonstrations. It is the reference and PPO's first policy.

use serde_json::json;

use super::{DEMONSTRATIONS, MODEL};
use crate::config::Config;
use crate::data::jsonl;
use crate::data::ragged::TokenBatch;
use crate::data::records::Demonstration;
use crate::data::tokenizer::Tokenizer;
use crate::device::{Device, DeviceKind};
use crate::error::Result;
use crate::model::CausalLm;
use crate::pipeline::Session;
use crate::pipeline::adapters;
use crate::pipeline::base_model::BaseModel;
use crate::pipeline::encoding::Encoder;
use crate::pipeline::report::write_report;
use crate::pipeline::store::{Artifact, StageKey};
use crate::telemetry::not_finite::OffendingRows as _;
use crate::train::sft;

/// One demonstration in this many is held out to measure the loss on.
const HELD_OUT_ONE_IN: usize = 20;

/// The SFT model of a configuration.
pub fn obtain(session: &Session<'_>, config: &Config, data: &Artifact) -> Result<Artifact> {
    let base = BaseModel::of(config)?;
    let mut of = json!({
        "data": data.key,
        "base": base.fingerprint()?,
        "template": config.prompt_template,
        "sft": config.sft,
        "lora": config.model.lora,
        "merge_adapters": config.model.merge_adapters,
        "seed": config.seed,
    });
    // Another kind of device has other bits. All later stages have this key in theirs.
    if config.device.kind != DeviceKind::Cpu {
        of["device"] = json!({ "kind": config.device.kind, "dtype": config.device.dtype });
    }
    let key = StageKey::new("sft", of);
    session.stage(config, "sft", key, |context| {
        let dir = context.dir.join(MODEL);
        let (mut model, tokenizer) = base.open(&context.stream.child("base"))?;
        for remark in model.remarks().iter().chain(&base.remarks()?) {
            context.observer.warn(remark);
        }
        adapters::keep_base(&mut model, &config.model, &dir)?;
        let model = model.to(context.device)?;
        let mut model = adapters::ready(model, &config.model, &context.stream)?;
        let encoder = Encoder::new(&tokenizer, &config.prompt_template, model.config());
        let demonstrations: Vec<Demonstration> = jsonl::read(&data.file(DEMONSTRATIONS))?;
        let (mut train, mut held_out) = (TokenBatch::new(), TokenBatch::new());
        for (row, demonstration) in demonstrations.iter().enumerate() {
            let Demonstration {
                id,
                prompt,
                response,
            } = demonstration;
            let (prompt, response) = encoder.row(id, prompt, response, true)?;
            let part = if row % HELD_OUT_ONE_IN == HELD_OUT_ONE_IN - 1 {
                &mut held_out
            } else {
                &mut train
            };
            part.push(&prompt, &response);
        }
        let report = sft::run(&mut model, &train, &held_out, &config.sft, context)
            .in_words(|before, ids| tokenizer.decode_behind(before, ids))?;
        write_report(context.dir, &report)?;
        adapters::save(&model, &tokenizer, &config.model, &dir)
    })
}

/// The SFT model on a device, and its tokenizer.
pub fn load(sft: &Artifact, device: &Device) -> Result<(CausalLm, Tokenizer)> {
    let dir = sft.file(MODEL);
    Ok((CausalLm::load(&dir)?.to(device)?, Tokenizer::load(&dir)?))
}
