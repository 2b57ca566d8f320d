//! A text continued by the model of a folder: what `finegrain generate` prints.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use candle_core::Device;
use finegrain_sdk::rng::Stream;

use super::checkpoint::check_tokenizer;
use super::generate::generate;
use super::llama::Llama;
use super::sampling::Sampling;
use crate::data::tokenizer::Tokenizer;
use crate::error::Result;

/// Continues `prompt` with the model and the tokenizer of a Hugging Face folder and gives the whole text, prompt
/// included, special tokens left out. Temperature 0 takes the likeliest tokens.
///
/// # Errors
/// A folder that cannot be loaded, a tokenizer that does not fit the model, a prompt that leaves no room for
/// `max_tokens`, an interrupt.
pub fn complete(
    dir: &Path,
    prompt: &str,
    temperature: f64,
    max_tokens: usize,
    seed: u64,
    cancel: &AtomicBool,
) -> Result<String> {
    let model = Llama::load(dir, &Device::Cpu)?;
    let tokenizer = Tokenizer::load(dir)?;
    check_tokenizer(model.config(), &tokenizer)?;
    let mut ids = tokenizer.encode_prompt(prompt)?;
    let mut eos = model.config().eos_token_id.clone();
    if eos.is_empty() {
        eos.push(tokenizer.eos());
    }
    let sampling = Sampling::at_temperature(temperature, max_tokens, eos);
    let stream = Stream::new(seed).child("generate");
    let rows = generate(
        &model,
        std::slice::from_ref(&ids),
        &sampling,
        &stream,
        cancel,
    )?;
    for row in rows {
        ids.extend(row.ids);
    }
    tokenizer.decode(&ids)
}
