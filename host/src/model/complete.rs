//! A text continued, or a question answered, by a model on disk: what `finegrain generate` prints.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use finegrain_sdk::rng::Stream;

use super::causal_lm::CausalLm;
use super::checkpoint::tokens_beyond;
use super::ends::ends;
use super::generate::generate;
use super::lora::tokenizer_of;
use super::rounding_effect::RoundingEffect;
use super::sampling::Sampling;
use crate::data::chat::Message;
use crate::data::tokenizer::Tokenizer;
use crate::error::Result;

/// A model on disk: a folder or a .gguf file, and where the model under an adapter lies if not where its files say.
#[derive(Clone, Copy, Debug)]
pub struct Source<'m> {
    /// The model, or the adapter.
    pub path: &'m Path,
    /// The model under the adapter.
    pub base: Option<&'m Path>,
}

impl<'m, P: AsRef<Path> + ?Sized> From<&'m P> for Source<'m> {
    fn from(path: &'m P) -> Self {
        Self {
            path: path.as_ref(),
            base: None,
        }
    }
}

/// What a model said.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The text, special tokens left out.
    pub text: String,
    /// What rounded weights did to the log-probabilities of its tokens; `None` where they are f32 or there is no token.
    pub rounding: Option<RoundingEffect>,
    /// What the model's files say that was not taken word for word, a line each.
    pub remarks: Vec<String>,
}

/// Continues `prompt` with the model and the tokenizer of a Hugging Face folder or a .gguf file and gives the whole text,
/// prompt included, special tokens left out. What ends it are `sampling`'s tokens, the model's and the tokenizer's EOS.
///
/// # Errors
/// A model that cannot be loaded, a tokenizer that does not fit the model, a prompt that leaves no room for
/// `sampling.max_new_tokens`, an interrupt.
pub fn complete<'m>(
    model: impl Into<Source<'m>>,
    prompt: &str,
    sampling: &Sampling,
    seed: u64,
    cancel: &AtomicBool,
) -> Result<Completion> {
    let speaker = Speaker::load(model.into())?;
    let sampling = speaker.ended(sampling);
    let mut ids = speaker.tokenizer.encode_prompt(prompt)?;
    let (continuation, rounding) = speaker.generate(&ids, &sampling, seed, cancel)?;
    ids.extend(continuation);
    let text = speaker.tokenizer.decode(&ids)?;
    Ok(Completion {
        text,
        rounding,
        remarks: speaker.remarks,
    })
}

/// The answer to a conversation in the model's chat template, special tokens left out. What ends it are `sampling`'s
/// tokens, the model's and the tokenizer's EOS.
///
/// # Errors
/// Those of [`complete`]; a model without a chat template, or one that refuses the conversation.
pub fn answer<'m>(
    model: impl Into<Source<'m>>,
    conversation: &[Message],
    sampling: &Sampling,
    seed: u64,
    cancel: &AtomicBool,
) -> Result<Completion> {
    let speaker = Speaker::load(model.into())?;
    let sampling = speaker.ended(sampling);
    let ids = speaker.tokenizer.encode_chat(conversation)?;
    let (answer, rounding) = speaker.generate(&ids, &sampling, seed, cancel)?;
    // The answer stands alone: a space that parts it from its prompt is none of it.
    let text = speaker.tokenizer.decode(&answer)?;
    Ok(Completion {
        text,
        rounding,
        remarks: speaker.remarks,
    })
}

/// A model and the tokenizer that belongs to it.
struct Speaker {
    model: CausalLm,
    tokenizer: Tokenizer,
    remarks: Vec<String>,
}

impl Speaker {
    fn load(Source { path, base }: Source<'_>) -> Result<Self> {
        let model = CausalLm::load_on(path, base)?;
        let tokenizer = tokenizer_of(path, base)?;
        let mut remarks = model.remarks().to_vec();
        remarks.extend(tokens_beyond(model.config(), &tokenizer)?);
        Ok(Self {
            model,
            tokenizer,
            remarks,
        })
    }

    /// The settings with every token that ends a response.
    fn ended(&self, sampling: &Sampling) -> Sampling {
        let mut sampling = sampling.clone();
        sampling
            .eos
            .extend(ends(self.model.config(), &self.tokenizer));
        sampling
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{ModelShape, save_fresh_model};

    #[test]
    fn generation_stops_at_a_token_that_generation_config_json_alone_names() -> Result<()> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let shape = ModelShape {
            hidden_size: 8,
            intermediate_size: 16,
            ..ModelShape::default()
        };
        save_fresh_model(&shape, &Stream::new(1), dir.path())?;
        let (prompt, sampling) = ("the sea", Sampling::greedy(6, Vec::new()));
        let told = || {
            let never = AtomicBool::new(false);
            complete(dir.path(), prompt, &sampling, 1, &never)
        };
        let tokenizer = Tokenizer::load(dir.path())?;
        let before = tokenizer.encode_prompt(prompt)?.len();
        let long = tokenizer.encode_prompt(&told()?.text)?;
        assert!(long.len() > before + 1, "{long:?}");
        let text = format!(r#"{{"eos_token_id": {}}}"#, long[before]);
        std::fs::write(dir.path().join("generation_config.json"), text).expect("written");
        let short = told()?;
        assert_eq!(tokenizer.encode_prompt(&short.text)?, long[..=before]);
        assert!(short.remarks.is_empty());
        Ok(())
    }
}
