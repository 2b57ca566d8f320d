//! From prompts and responses as text to token ids, in the one way that all stages share: a response has the ids that it has
//! behind its prompt (`data/tokenizer/ids.rs` says what that means).

use crate::data::ragged::TokenBatch;
use crate::data::records::{Pair, SetAsideReason};
use crate::data::template::PromptTemplate;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::model::{CausalLmConfig, ends};

/// Encodes rows for one model, and refuses those that do not fit it.
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    template: &'a PromptTemplate,
    /// The tokens that end a response.
    ends: Vec<u32>,
    /// Tokens of the longest row, and the key of config.json that says so.
    context_length: usize,
    length_key: &'static str,
    /// Rows of the embedding table.
    rows: usize,
}

/// The ids of a pair: of the prompt, of the preferred response, of the other one.
pub struct PairIds {
    /// The prompt in its template.
    pub prompt: Vec<u32>,
    /// The preferred response, EOS included where it ended.
    pub chosen: Vec<u32>,
    /// The other response, EOS included where it ended.
    pub rejected: Vec<u32>,
}

impl<'a> Encoder<'a> {
    /// An encoder for the tokenizer, the prompt template and the context length of a model.
    pub fn new(
        tokenizer: &'a Tokenizer,
        template: &'a PromptTemplate,
        config: &CausalLmConfig,
    ) -> Self {
        Self {
            tokenizer,
            template,
            ends: ends(config, tokenizer),
            context_length: config.longest_row(),
            length_key: config.longest_row_key(),
            rows: config.vocab_size,
        }
    }

    /// The ids of a prompt, BOS included where the tokenizer asks for it; at least one.
    pub fn prompt(&self, id: &str, prompt: &str) -> Result<Vec<u32>> {
        let ids = self.prompt_of_any_length(id, prompt)?;
        self.check(id, ids.len())?;
        Ok(ids)
    }

    /// Prompt and response as a row that fits the model; EOS closes the response where it `ended`, rather than ran into a
    /// length limit.
    pub fn row(
        &self,
        id: &str,
        prompt: &str,
        response: &str,
        ended: bool,
    ) -> Result<(Vec<u32>, Vec<u32>)> {
        let prompt = self.prompt(id, prompt)?;
        let response = self.response(id, &prompt, response, ended)?;
        self.check(id, prompt.len() + response.len())?;
        Ok((prompt, response))
    }

    /// Both sides of a pair behind its prompt, which fit the model: responses that were sampled as they were sampled, others
    /// from their texts.
    pub fn pair(&self, pair: &Pair) -> Result<PairIds> {
        let id = &pair.id;
        let prompt = self.prompt(id, &pair.prompt)?;
        let (chosen, rejected) = match &pair.sampled {
            Some(ids) => (ids.chosen.clone(), ids.rejected.clone()),
            None => (
                self.response(id, &prompt, &pair.chosen, pair.chosen_ended)?,
                self.response(id, &prompt, &pair.rejected, pair.rejected_ended)?,
            ),
        };
        self.check(id, prompt.len() + chosen.len().max(rejected.len()))?;
        Ok(PairIds {
            prompt,
            chosen,
            rejected,
        })
    }

    /// Why a row cannot be used with the model, in words; `None` where it can.
    ///
    /// The row is a prompt with each of `responses`, which EOS closes where they are said to have ended; and where it is sampled
    /// from, with room for `sampled` new tokens, the number and the key that asks for it.
    ///
    /// # Errors
    /// A prompt that the template refuses.
    pub fn refuses(
        &self,
        id: &str,
        prompt: &str,
        responses: &[(&str, bool)],
        sampled: Option<(usize, &str)>,
    ) -> Result<Option<(SetAsideReason, String)>> {
        let texts = responses.iter().map(|(text, _)| *text);
        for text in texts.chain([prompt]) {
            if let Some(name) = self.tokenizer.unreadable(text)? {
                let detail = format!(
                    "holds {name:?}, which the tokenizer can only read as its special token"
                );
                return Ok(Some((SetAsideReason::SpecialToken, detail)));
            }
        }
        let prompt = self.prompt_of_any_length(id, prompt)?;
        if let Some(refusal) = self.beyond_the_table(&prompt) {
            return Ok(Some(refusal));
        }
        let mut longest = None;
        for (response, ended) in responses {
            let mut ids = self.tokenizer.encode_behind(&prompt, response)?;
            self.close(&mut ids, *ended);
            if let Some(refusal) = self.beyond_the_table(&ids) {
                return Ok(Some(refusal));
            }
            let tokens = ids.len();
            if tokens == 0 {
                let detail = "a response has no token".to_owned();
                return Ok(Some((SetAsideReason::EmptyResponse, detail)));
            }
            longest = longest.max(Some(tokens));
        }
        let what = [
            longest.map(|tokens| (tokens, "of the longest response".to_owned())),
            sampled.map(|(tokens, key)| (tokens, format!("of {key}"))),
        ];
        let most = what.into_iter().flatten().max_by_key(|(tokens, _)| *tokens);
        let (behind, of) = most.unwrap_or_default();
        let (tokens, limit) = (prompt.len() + behind, self.context_length);
        Ok((tokens > limit).then(|| {
            let behind = match behind {
                0 => String::new(),
                _ => format!(" and {behind} {of}"),
            };
            let detail = format!(
                "{tokens} tokens ({} of the prompt{behind}), limit {limit} ({})",
                prompt.len(),
                self.length_key
            );
            (SetAsideReason::TooLong, detail)
        }))
    }

    fn prompt_of_any_length(&self, id: &str, prompt: &str) -> Result<Vec<u32>> {
        self.template
            .encode(self.tokenizer, prompt)
            .map_err(|error| error.context(format!("row {id:?}")))
    }

    fn response(&self, id: &str, prompt: &[u32], response: &str, ended: bool) -> Result<Vec<u32>> {
        let ids = self.tokenizer.encode_behind(prompt, response);
        let mut ids = ids.map_err(|error| error.context(format!("row {id:?}")))?;
        self.close(&mut ids, ended);
        if ids.is_empty() {
            return Err(Error::input(format!("row {id:?}: the response is empty"))
                .hint("a response has at least one token"));
        }
        Ok(ids)
    }

    /// Puts EOS behind a response that `ended`, unless it ends with a token that ends responses.
    fn close(&self, ids: &mut Vec<u32>, ended: bool) {
        if ended && !ids.last().is_some_and(|id| self.ends.contains(id)) {
            ids.push(self.tokenizer.eos());
        }
    }

    /// The first id that the model has no embedding for.
    fn beyond_the_table(&self, ids: &[u32]) -> Option<(SetAsideReason, String)> {
        let id = ids.iter().find(|id| **id as usize >= self.rows)?;
        let name = self.tokenizer.id_to_token(*id).unwrap_or_default();
        let rows = self.rows;
        let detail =
            format!("holds the token {name:?} with the id {id}; the model's table has {rows} rows");
        Some((SetAsideReason::BeyondTheTable, detail))
    }

    fn check(&self, id: &str, tokens: usize) -> Result<()> {
        if tokens > self.context_length {
            return Err(Error::input(format!(
                "row {id:?} has {tokens} tokens; the model takes {} ({})",
                self.context_length, self.length_key
            ))
            .hint("shorten or drop the row; data.max_words sets long rows of a file aside"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::records::{PairSource, SampledIds};
    use crate::sandbox::{ModelShape, tokenizer};

    #[test]
    fn sampled_responses_keep_their_ids_and_texts_are_encoded() {
        let (tokenizer, template) = (tokenizer().unwrap(), PromptTemplate::default());
        let sizes = ModelShape::default().model_config(&tokenizer);
        let encoder = Encoder::new(&tokenizer, &template, &sizes);
        let mut pair = Pair {
            id: "7".into(),
            prompt: "the sea".into(),
            chosen: "the wave".into(),
            rejected: "the".into(),
            chosen_ended: true,
            rejected_ended: false,
            flipped: false,
            source: PairSource::Pairs,
            sampled: None,
        };
        let ids = encoder.pair(&pair).unwrap();
        assert_eq!(ids.chosen[..2], tokenizer.encode("the wave").unwrap());
        assert_eq!((ids.chosen[2], ids.rejected.len()), (tokenizer.eos(), 1));
        // Ids that no encoding gives, read back from the file.
        pair.sampled = Some(SampledIds {
            chosen: vec![9, 9],
            rejected: vec![8],
        });
        let text = serde_json::to_string(&pair).unwrap();
        let read = encoder.pair(&serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(
            (read.prompt, read.chosen, read.rejected),
            (ids.prompt, vec![9, 9], vec![8])
        );
        pair.sampled = Some(SampledIds {
            chosen: vec![9; sizes.max_position_embeddings],
            rejected: vec![8],
        });
        let error = encoder.pair(&pair).err().unwrap();
        assert!(error.to_string().contains("row \"7\" has "), "{error}");
    }

    #[test]
    fn a_response_that_ends_by_any_of_its_ends_is_not_closed_again() {
        let (tokenizer, template) = (tokenizer().unwrap(), PromptTemplate::default());
        let mut sizes = ModelShape::default().model_config(&tokenizer);
        let wave = *tokenizer.encode("the wave").unwrap().last().unwrap();
        let response = |sizes: &CausalLmConfig, ended| {
            let encoder = Encoder::new(&tokenizer, &template, sizes);
            encoder.row("7", "the sea", "the wave", ended).unwrap().1
        };
        assert_eq!(response(&sizes, true).last(), Some(&tokenizer.eos()));
        sizes.eos_token_id.push(wave);
        assert_eq!(response(&sizes, true).last(), Some(&wave));
        assert_eq!(response(&sizes, false), response(&sizes, true));
    }

    #[test]
    fn a_row_with_a_token_beyond_the_table_is_set_aside_with_it() {
        let (tokenizer, template) = (tokenizer().unwrap(), PromptTemplate::default());
        let mut sizes = ModelShape::default().model_config(&tokenizer);
        let id = *tokenizer.encode("the wave").unwrap().last().unwrap();
        let refused = |sizes: &CausalLmConfig, prompt: &str, response: &str| {
            let encoder = Encoder::new(&tokenizer, &template, sizes);
            encoder
                .refuses("7", prompt, &[(response, true)], None)
                .unwrap()
        };
        assert_eq!(refused(&sizes, "the wave", "the"), None);
        sizes.vocab_size = id as usize;
        for (prompt, response) in [("the wave", "the"), ("the", "the wave")] {
            let (reason, detail) = refused(&sizes, prompt, response).unwrap();
            assert_eq!(reason, SetAsideReason::BeyondTheTable);
            assert!(detail.contains(&format!("the id {id}")), "{detail}");
        }
    }
}
