//! The shapes of models and batches that are timed.

use std::str::FromStr;

use serde::Serialize;

use crate::bench::Workload;
use crate::error::{Error, Result};
use crate::model::{CausalLmConfig, Family, Variant};

/// The shape of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// V: tokens of the vocabulary.
    pub vocabulary: usize,
    /// C: channels; a multiple of `heads`.
    pub channels: usize,
    /// Layers.
    pub layers: usize,
    /// H: query heads, each of C / H channels.
    pub heads: usize,
    /// K: key/value heads.
    pub kv_heads: usize,
    /// F: channels of the feed-forward block.
    pub feed_forward: usize,
    /// Whether the output head is the embedding table.
    pub tied: bool,
}

/// The sandbox's model.
pub const SMALL: Shape = Shape {
    vocabulary: 512,
    channels: 128,
    layers: 4,
    heads: 4,
    kv_heads: 4,
    feed_forward: 344,
    tied: false,
};

/// The sizes of the 15-million-parameter story models, with a smaller vocabulary.
pub const MEDIUM: Shape = Shape {
    vocabulary: 4096,
    channels: 288,
    layers: 6,
    heads: 6,
    kv_heads: 6,
    feed_forward: 768,
    tied: false,
};

/// LLaMA with 7 billion parameters (Touvron et al. 2023, table 2; vocabulary and F of its config.json).
pub const LLAMA_7B: Shape = Shape {
    vocabulary: 32_000,
    channels: 4096,
    layers: 32,
    heads: 32,
    kv_heads: 32,
    feed_forward: 11_008,
    tied: false,
};

/// `SmolLM2` with 135 million parameters.
pub const SMOLLM2: Shape = Shape {
    vocabulary: 49_152,
    channels: 576,
    layers: 30,
    heads: 9,
    kv_heads: 3,
    feed_forward: 1536,
    tied: true,
};

/// The shapes that have a name.
pub const NAMED: [(&str, Shape); 4] = [
    ("small", SMALL),
    ("medium", MEDIUM),
    ("smollm2", SMOLLM2),
    ("llama-7b", LLAMA_7B),
];

impl FromStr for Shape {
    type Err = Error;

    /// A name, or `V,C,LAYERS,HEADS,KV,FFN` of a model whose head is not tied.
    fn from_str(text: &str) -> Result<Self> {
        if let Some((_, shape)) = NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(*shape);
        }
        let sizes: Vec<usize> = text
            .split(',')
            .map_while(|size| size.trim().parse().ok())
            .collect();
        let &[vocabulary, channels, layers, heads, kv_heads, feed_forward] = sizes.as_slice()
        else {
            let names = NAMED.map(|(name, _)| name).join(", ");
            return Err(Error::input(format!(
                "--shape {text}: accepted are {names} and six sizes V,C,LAYERS,HEADS,KV,FFN"
            ))
            .hint("the sandbox's model is 512,128,4,4,4,344"));
        };
        if heads == 0 || !channels.is_multiple_of(heads) {
            return Err(Error::input(format!(
                "--shape {text}: {channels} channels do not divide into {heads} heads"
            )));
        }
        Ok(Self {
            vocabulary,
            channels,
            layers,
            heads,
            kv_heads,
            feed_forward,
            tied: false,
        })
    }
}

impl Shape {
    /// D: channels of a head.
    pub fn head_size(&self) -> usize {
        self.channels / self.heads
    }

    /// How many parameters.
    pub fn parameters(&self) -> u64 {
        let embedding = self.vocabulary * self.channels;
        let layer = self.layer_weights() as usize + 2 * self.channels;
        let head = if self.tied { 0 } else { embedding };
        (embedding + self.layers * layer + self.channels + head) as u64
    }

    /// Elements of the seven matrices of a layer.
    pub fn layer_weights(&self) -> u64 {
        let (c, kd) = (self.channels, self.kv_heads * self.head_size());
        (2 * c * c + 2 * c * kd + 3 * c * self.feed_forward) as u64
    }

    /// The model's configuration, for rows of at most `length` tokens that no token ends.
    pub(super) fn config(&self, length: usize) -> CausalLmConfig {
        CausalLmConfig {
            family: Family::Llama,
            vocab_size: self.vocabulary,
            hidden_size: self.channels,
            intermediate_size: self.feed_forward,
            num_hidden_layers: self.layers,
            num_attention_heads: self.heads,
            num_key_value_heads: self.kv_heads,
            head_dim: self.head_size(),
            max_position_embeddings: length,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            tie_word_embeddings: self.tied,
            bos_token_id: None,
            eos_token_id: Vec::new(),
            variant: Variant::default(),
        }
    }

    /// The batch that a named shape is timed with.
    pub fn batch(&self, workload: Workload) -> Option<Batch> {
        Some(match (*self, workload) {
            (SMALL, Workload::Ppo) => Batch::new(64, 64),
            (SMALL, _) => Batch::new(32, 64),
            (MEDIUM, Workload::Ppo) => Batch::new(32, 128),
            (MEDIUM, _) => Batch::new(8, 128),
            (SMOLLM2, _) => Batch::new(4, 128),
            (LLAMA_7B, Workload::Train) => Batch::new(4, 492),
            // AlpacaFarm's longest prompts and responses.
            (LLAMA_7B, _) => Batch {
                prompt: 192,
                ..Batch::new(16, 492)
            },
            _ => return None,
        })
    }
}

/// Rows of one length, all with prompts of one length where there are prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// B.
    pub rows: usize,
    /// Tokens a row, prompt included; at least 2.
    pub length: usize,
    /// Tokens of a prompt, where there is one; at least 1 and below `length`.
    pub prompt: usize,
}

impl Batch {
    /// Rows of which half is prompt.
    pub fn new(rows: usize, length: usize) -> Self {
        Self {
            rows,
            length,
            prompt: length / 2,
        }
    }

    /// The same rows with prompts of so many tokens.
    ///
    /// # Errors
    /// A prompt without a token, or one that leaves none to sample.
    pub fn with_prompt(self, prompt: usize) -> Result<Self> {
        if prompt == 0 || prompt >= self.length {
            return Err(Error::input(format!(
                "--prompt {prompt}: accepted is 1 to {} in rows of {} tokens",
                self.length - 1,
                self.length
            ))
            .hint("what is left of a row is sampled"));
        }
        Ok(Self { prompt, ..self })
    }

    /// N.
    pub fn tokens(self) -> usize {
        self.rows * self.length
    }

    /// Tokens that are sampled behind it.
    pub fn new_tokens(self) -> usize {
        self.length - self.prompt
    }
}

impl FromStr for Batch {
    type Err = Error;

    /// `ROWSxLENGTH`.
    fn from_str(text: &str) -> Result<Self> {
        let sizes = text
            .split_once(['x', '×'])
            .and_then(|(rows, length)| Some((rows.parse().ok()?, length.parse().ok()?)));
        match sizes {
            Some((rows, length)) if rows > 0 && length > 1 => Ok(Self::new(rows, length)),
            _ => Err(Error::input(format!(
                "--batch {text}: accepted is ROWSxLENGTH, at least 1x2"
            ))
            .hint("32x64 is 32 rows of 64 tokens")),
        }
    }
}

#[cfg(test)]
mod tests {
    use finegrain_sdk::rng::Stream;

    use super::*;
    use crate::model::CausalLm;

    #[test]
    fn parameters_are_those_of_the_model() {
        for tied in [false, true] {
            let shape = Shape {
                kv_heads: 2,
                tied,
                ..SMALL
            };
            let model = CausalLm::new(shape.config(8), &Stream::new(1)).unwrap();
            assert_eq!(shape.parameters(), model.parameters().len() as u64);
        }
        // SmolLM2-135M: 134 515 008 by its model card's files.
        assert_eq!(SMOLLM2.parameters(), 134_515_008);
        // LLaMA-7B: 6 738 415 616, "6.7B" in the paper's table 2.
        assert_eq!(LLAMA_7B.parameters(), 6_738_415_616);
    }

    #[test]
    fn shapes_and_batches_are_read_and_refused() {
        for (name, shape) in NAMED {
            assert_eq!(name.parse::<Shape>().unwrap(), shape);
            for workload in [Workload::Train, Workload::Generate, Workload::Ppo] {
                assert!(shape.batch(workload).is_some(), "{name}");
            }
        }
        assert_eq!("512,128,4,4,4,344".parse::<Shape>().unwrap(), SMALL);
        assert_eq!(SMALL.batch(Workload::Ppo).unwrap().new_tokens(), 32);
        for (text, word) in [
            ("tiny", "accepted"),
            ("1,2,3", "six sizes"),
            ("9,8,1,3,1,9", "divide"),
            ("9,8,1,0,1,9", "divide"),
        ] {
            let error = text.parse::<Shape>().unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        assert_eq!("4x128".parse::<Batch>().unwrap(), Batch::new(4, 128));
        let batch = Batch::new(4, 128).with_prompt(30).unwrap();
        assert_eq!((batch.prompt, batch.new_tokens()), (30, 98));
        assert!(batch.with_prompt(0).is_err() && batch.with_prompt(128).is_err());
        for text in ["4", "0x8", "4x1", "ax2"] {
            assert!(text.parse::<Batch>().is_err(), "{text}");
        }
    }
}
