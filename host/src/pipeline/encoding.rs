//! From prompts and responses as text to token ids, in the one way that all stages share.

use crate::data::ragged::TokenBatch;
use crate::data::template::PromptTemplate;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::model::LlamaConfig;

/// Encodes rows for one model, and refuses those that do not fit it.
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    template: &'a PromptTemplate,
    context_length: usize,
}

impl<'a> Encoder<'a> {
    /// An encoder for the tokenizer, the prompt template and the context length of a model.
    pub fn new(
        tokenizer: &'a Tokenizer,
        template: &'a PromptTemplate,
        config: &LlamaConfig,
    ) -> Self {
        Self {
            tokenizer,
            template,
            context_length: config.max_position_embeddings,
        }
    }

    /// The ids of a prompt, BOS included where the tokenizer asks for it; at least one.
    pub fn prompt(&self, id: &str, prompt: &str) -> Result<Vec<u32>> {
        let ids = self
            .template
            .encode(self.tokenizer, prompt)
            .map_err(|error| error.context(format!("row {id:?}")))?;
        self.check(id, ids.len())?;
        Ok(ids)
    }

    /// The ids of a response; EOS closes it where the response `ended`, rather than ran into a length limit.
    pub fn response(&self, id: &str, response: &str, ended: bool) -> Result<Vec<u32>> {
        let mut ids = self.tokenizer.encode(response)?;
        if ended {
            ids.push(self.tokenizer.eos());
        }
        if ids.is_empty() {
            return Err(Error::input(format!("row {id:?}: the response is empty"))
                .hint("a response has at least one token"));
        }
        Ok(ids)
    }

    /// Prompt and response as a row that fits the model.
    pub fn row(
        &self,
        id: &str,
        prompt: &str,
        response: &str,
        ended: bool,
    ) -> Result<(Vec<u32>, Vec<u32>)> {
        let row = (
            self.prompt(id, prompt)?,
            self.response(id, response, ended)?,
        );
        self.check(id, row.0.len() + row.1.len())?;
        Ok(row)
    }

    fn check(&self, id: &str, tokens: usize) -> Result<()> {
        if tokens > self.context_length {
            return Err(Error::input(format!(
                "row {id:?} has {tokens} tokens; the model takes {} (max_position_embeddings)",
                self.context_length
            ))
            .hint(
                "shorten or drop the row; data.max_tokens sets long rows of an edit file aside",
            ));
        }
        Ok(())
    }
}

/// Rows of ids as one batch.
pub fn batch<'r>(rows: impl IntoIterator<Item = (&'r [u32], &'r [u32])>) -> TokenBatch {
    let mut batch = TokenBatch::new();
    for (prompt, response) in rows {
        batch.push(prompt, response);
    }
    batch
}
