//! A text continued, or a question answered, by a model on disk: what `finegrain generate` prints.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use finegrain_sdk::rng::Stream;

use super::checkpoint::check_tokenizer;
use super::generate::generate;
use super::llama::Llama;
use super::rounding_effect::RoundingEffect;
use super::sampling::Sampling;
use crate::data::chat::Message;
use crate::data::tokenizer::Tokenizer;
use crate::error::Result;

/// What a model said.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The text, special tokens left out.
    pub text: String,
    /// What rounded weights did to the log-probabilities of its tokens; `None` where they are f32 or there is no token.
    pub rounding: Option<RoundingEffect>,
}

/// Continues `prompt` with the model and the tokenizer of a Hugging Face folder or a .gguf file and gives the whole text,
/// prompt included, special tokens left out. The tokenizer's EOS ends it where neither `sampling` nor the model names a
/// token.
///
/// # Errors
/// A model that cannot be loaded, a tokenizer that does not fit the model, a prompt that leaves no room for
/// `sampling.max_new_tokens`, an interrupt.
pub fn complete(
    path: &Path,
    prompt: &str,
    sampling: &Sampling,
    seed: u64,
    cancel: &AtomicBool,
) -> Result<Completion> {
    let speaker = Speaker::load(path)?;
    let mut sampling = sampling.clone();
    if sampling.eos.is_empty() && speaker.model.config().eos_token_id.is_empty() {
        sampling.eos.push(speaker.tokenizer.eos());
    }
    let mut ids = speaker.tokenizer.encode_prompt(prompt)?;
    let (continuation, rounding) = speaker.generate(&ids, &sampling, seed, cancel)?;
    ids.extend(continuation);
    let text = speaker.tokenizer.decode(&ids)?;
    Ok(Completion { text, rounding })
}

/// The answer to a conversation in the model's chat template, special tokens left out. What ends it are `sampling`'s
/// tokens, the model's and the tokenizer's EOS.
///
/// # Errors
/// Those of [`complete`]; a model without a chat template, or one that refuses the conversation.
pub fn answer(
    path: &Path,
    conversation: &[Message],
    sampling: &Sampling,
    seed: u64,
    cancel: &AtomicBool,
) -> Result<Completion> {
    let speaker = Speaker::load(path)?;
    let mut sampling = sampling.clone();
    sampling.eos.extend(&speaker.model.config().eos_token_id);
    sampling.eos.push(speaker.tokenizer.eos());
    let ids = speaker.tokenizer.encode_chat(conversation)?;
    let (answer, rounding) = speaker.generate(&ids, &sampling, seed, cancel)?;
    // The answer stands alone: a space that parts it from its prompt is none of it.
    let text = speaker.tokenizer.decode(&answer)?;
    Ok(Completion { text, rounding })
}

/// A model and the tokenizer that belongs to it.
struct Speaker {
    model: Llama,
    tokenizer: Tokenizer,
}

impl Speaker {
    fn load(path: &Path) -> Result<Self> {
        let model = Llama::load(path)?;
        let tokenizer = Tokenizer::load(path)?;
        check_tokenizer(model.config(), &tokenizer)?;
        Ok(Self { model, tokenizer })
    }

    /// The ids that follow `prompt`, and what rounded weights did to them.
    fn generate(
        &self,
        prompt: &[u32],
        sampling: &Sampling,
        seed: u64,
        cancel: &AtomicBool,
    ) -> Result<(Vec<u32>, Option<RoundingEffect>)> {
        let stream = Stream::new(seed).child("generate");
        let prompts = [prompt.to_vec()];
        let rows = generate(&self.model, &prompts, sampling, &stream, cancel)?;
        let rounding = if sampling.weights.rounds() {
            RoundingEffect::measure(&self.model, &prompts, &rows, sampling.temperature)?
        } else {
            None
        };
        let ids = rows.into_iter().flat_map(|row| row.ids).collect();
        Ok((ids, rounding))
    }
}
