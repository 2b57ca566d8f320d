//! A small model and a batch for the unit tests of this folder.

use finegrain_sdk::rng::Stream;

use super::{CausalLm, CausalLmConfig, Family, Variant};
use crate::data::ragged::TokenBatch;
use crate::error::Result;

/// Two layers, grouped key/value heads, a head size that is not C / H, and a vocabulary of 11.
pub(super) fn config(tied: bool) -> CausalLmConfig {
    CausalLmConfig {
        family: Family::Llama,
        vocab_size: 11,
        hidden_size: 12,
        intermediate_size: 20,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 6,
        max_position_embeddings: 32,
        rms_norm_eps: 1e-5,
        rope_theta: 500.0,
        tie_word_embeddings: tied,
        bos_token_id: Some(1),
        eos_token_id: vec![2],
        variant: Variant::default(),
    }
}

/// A model whose weights are 1.4 times the fresh ones', so that its distributions are far from uniform.
pub(super) fn model(tied: bool) -> Result<CausalLm> {
    let mut model = CausalLm::new(config(tied), &Stream::new(7).child("model"))?;
    let entries = model.parameters().entries().to_vec();
    for entry in entries.iter().filter(|entry| !entry.name.contains("norm")) {
        let values = model.parameters_mut().get_mut(&entry.name)?;
        for value in values {
            *value *= 1.4;
        }
    }
    Ok(model)
}

/// Rows of different lengths, one without a response.
pub(super) fn batch() -> TokenBatch {
    let mut batch = TokenBatch::new();
    batch.push(&[1, 4, 5], &[6, 7, 2]);
    batch.push(&[1], &[9, 8]);
    batch.push(&[1, 10, 3], &[]);
    batch
}
