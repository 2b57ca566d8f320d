//! A fresh model of the sandbox, as a Hugging Face folder like any other.

use std::path::Path;

use finegrain_sdk::rng::Stream;

use super::{ModelShape, tokenizer};
use crate::data::tokenizer::Tokenizer;
use crate::error::Result;
use crate::model::CausalLm;

/// A model with random weights drawn from `stream`, and the sandbox's tokenizer.
///
/// # Errors
/// A shape that is no model.
pub fn fresh_model(shape: &ModelShape, stream: &Stream) -> Result<(CausalLm, Tokenizer)> {
    let tokenizer = tokenizer()?;
    let config = shape.model_config(&tokenizer);
    Ok((CausalLm::new(config, stream)?, tokenizer))
}

/// Writes a fresh model and its tokenizer into `dir`: config.json, model.safetensors, tokenizer.json,
/// `tokenizer_config.json`.
pub fn save_fresh_model(shape: &ModelShape, stream: &Stream, dir: &Path) -> Result<()> {
    let (model, tokenizer) = fresh_model(shape, stream)?;
    model.save(dir)?;
    tokenizer.save(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_a_model_like_any_other() {
        let dir = tempfile::tempdir().unwrap();
        let shape = ModelShape {
            hidden_size: 8,
            intermediate_size: 16,
            ..ModelShape::default()
        };
        save_fresh_model(&shape, &Stream::new(1), dir.path()).unwrap();
        let (model, tokenizer) = (
            CausalLm::load(dir.path()).unwrap(),
            Tokenizer::load(dir.path()).unwrap(),
        );
        assert_eq!(model.config().vocab_size, tokenizer.vocab_size());
        assert_eq!(model.config().eos_token_id, [tokenizer.eos()]);
        assert_eq!(model.config().hidden_size, 8);
    }
}
