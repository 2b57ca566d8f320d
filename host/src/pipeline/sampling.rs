//! Responses of a model to a list of prompts.

use finegrain_sdk::rng::Stream;

use crate::data::records::PromptRecord;
use crate::data::template::PromptTemplate;
use crate::data::tokenizer::Tokenizer;
use crate::error::Result;
use crate::model::{CausalLm, ends, generate};
use crate::pipeline::context::StageContext;
use crate::pipeline::encoding::Encoder;
use crate::train::sampling::SamplingConfig;

/// Rows that are generated together: enough to fill the machine, few enough for progress to move.
pub(crate) const CHUNK: usize = 64;

/// One sampled response.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// Its ids, EOS included where it ended.
    pub ids: Vec<u32>,
    /// Its text behind the prompt, without special tokens.
    pub text: String,
    /// Whether a token that ends responses ended it, rather than at the length limit.
    pub ended: bool,
}

/// A model that samples, and what it is asked with.
#[derive(Clone, Copy)]
pub struct Sampler<'a> {
    /// The model.
    pub model: &'a CausalLm,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The text around prompts.
    pub template: &'a PromptTemplate,
    /// Temperature, top-k, top-p and the length limit.
    pub sampling: &'a SamplingConfig,
}

impl Sampler<'_> {
    /// A response for every prompt; each draws from a place of its own below `stream`. `shown` stands behind the
    /// progress bar; nothing is shown where it is empty.
    pub fn sample(
        &self,
        context: &StageContext<'_>,
        stream: &Stream,
        prompts: &[PromptRecord],
        shown: &str,
    ) -> Result<Vec<Sampled>> {
        let encoder = Encoder::new(self.tokenizer, self.template, self.model.config());
        let sampling = self
            .sampling
            .with_eos(&ends(self.model.config(), self.tokenizer));
        let mut sampled = Vec::with_capacity(prompts.len());
        for (chunk, prompts_of_chunk) in prompts.chunks(CHUNK).enumerate() {
            context.check_cancelled()?;
            if !shown.is_empty() {
                context
                    .observer
                    .progress(sampled.len() as u64, prompts.len() as u64, shown);
            }
            let ids = prompts_of_chunk
                .iter()
                .map(|prompt| encoder.prompt(&prompt.id, &prompt.prompt))
                .collect::<Result<Vec<_>>>()?;
            let stream = stream.index(chunk as u64);
            let rows = generate(self.model, &ids, &sampling, &stream, context.cancel)?;
            for (prompt, row) in ids.iter().zip(rows) {
                sampled.push(Sampled {
                    text: self.tokenizer.decode_behind(prompt, &row.ids)?,
                    ids: row.ids,
                    ended: row.ended,
                });
            }
        }
        Ok(sampled)
    }
}
