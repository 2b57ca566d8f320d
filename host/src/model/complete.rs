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
/// included, special tokens left out. The tokenizer's EOS ends it where neither `sampling` nor the model names a token.
///
/// # Errors
/// A folder that cannot be loaded, a tokenizer that does not fit the model, a prompt that leaves no room for
/// `sampling.max_new_tokens`, an interrupt.
pub fn complete(
    dir: &Path,
    prompt: &str,
    sampling: &Sampling,
    seed: u64,
    cancel: &AtomicBool,
) -> Result<String> {
    let model = Llama::load(dir, &Device::Cpu)?;
    let tokenizer = Tokenizer::load(dir)?;
    check_tokenizer(model.config(), &tokenizer)?;
    let mut ids = tokenizer.encode_prompt(prompt)?;
    let mut sampling = sampling.clone();
    if sampling.eos.is_empty() && model.config().eos_token_id.is_empty() {
        sampling.eos.push(tokenizer.eos());
    }
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
