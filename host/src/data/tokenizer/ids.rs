//! From texts to ids and back: prompts, conversations, and texts behind them.
//!
//! One rule: **the ids of a text are those it has where it stands in its row.** At the beginning of a row a tokenizer may put a
//! space in front of a text; behind a prompt it does not, so a response is encoded without it, and decoded without taking
//! one off. What an encoding of the whole row would give is the same, but for a token that would straddle the border between
//! prompt and response. There is none: a prompt's ids are fixed before there is a response, since the model is given them and
//! goes on, so a response begins with a token of its own. For the same reason a prompt is never closed: what a
//! post-processor puts behind a text (EOS) is left out.
//!
//! The second: names of special tokens in data and in what users say are text; only templates write special tokens.

use tokenizers::{Encoding, PostProcessor as _, Token};

use super::names::{Names, Part};
use super::{CHAT, FILE, Tokenizer, failed};
use crate::data::chat::Message;
use crate::error::{Error, Result};

/// What the post-processor puts before a text; what it puts behind is of no use here.
pub(super) fn opening(inner: &tokenizers::Tokenizer) -> Result<Vec<u32>> {
    let Some(processor) = inner.get_post_processor() else {
        return Ok(Vec::new());
    };
    let text = Encoding::from_tokens(vec![Token::new(0, String::new(), (0, 0))], 0);
    let around = processor
        .process(text, None, true)
        .map_err(|error| failed("set up", &error))?;
    let added = around.get_special_tokens_mask().iter();
    let before = added.take_while(|added| **added == 1).count();
    Ok(around.get_ids()[..before].to_vec())
}

impl Tokenizer {
    /// The ids of a text at the beginning of a row, without what a post-processor would add.
    ///
    /// # Errors
    /// A text that holds the name of a special token which this tokenizer cannot read as text: [`Self::unreadable`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.text(text, true)
    }

    /// The ids of a text behind the ids of another: of a response behind its prompt.
    ///
    /// # Errors
    /// Those of [`Self::encode`].
    pub fn encode_behind(&self, before: &[u32], text: &str) -> Result<Vec<u32>> {
        self.text(text, self.begins_behind(before))
    }

    /// The ids of a prompt that was written out for this model, with what the tokenizer itself puts before a text: names of
    /// special tokens are these tokens. At least one; a text that would have no token at all becomes BOS.
    ///
    /// # Errors
    /// A tokenizer that fails.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        self.opened(text, None)
    }

    /// The ids of a prompt between the two texts of a template, as [`Self::encode_prompt`] gives them, with names of special
    /// tokens in the prompt as text.
    ///
    /// # Errors
    /// Those of [`Self::encode`].
    pub fn encode_between(&self, before: &str, prompt: &str, behind: &str) -> Result<Vec<u32>> {
        let sign = Names::sign(&[before, prompt, behind].into_iter())?;
        let prompt = self.names.broken(prompt, sign);
        self.opened(&[before, &prompt, behind].concat(), Some(sign))
    }

    /// The ids of a conversation in the model's chat template, up to where an answer begins; names of special tokens in
    /// what is said are text.
    ///
    /// The template says itself where a BOS stands, so the tokenizer adds none: a second BOS would be one that the model
    /// never saw in training.
    ///
    /// # Errors
    /// No chat template, or one that refuses the conversation; those of [`Self::encode`].
    pub fn encode_chat(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let template = self.chats.default.as_ref().ok_or_else(|| {
            if self.chats.named.is_empty() {
                return Error::input("the model has no chat template").hint(format!(
                    "base models have none; if the model was trained on one, put it beside {FILE} as {CHAT}"
                ));
            }
            Error::input(format!(
                "the model has chat templates named {} and none named default",
                self.chats.named.join(", ")
            ))
            .hint(format!(
                "put the one that is meant for plain conversations beside {FILE} as {CHAT}"
            ))
        })?;
        let texts = messages.iter().map(|message| message.content.as_str());
        let sign = Names::sign(&texts.chain([template.source()]))?;
        let messages: Vec<Message> = messages
            .iter()
            .map(|said| Message::new(said.role, self.names.broken(&said.content, sign)))
            .collect();
        let names: Vec<_> = (self.special.0.iter())
            .map(|(kind, token)| (format!("{kind}_token"), token))
            .collect();
        let special = names
            .iter()
            .map(|(name, token)| (name.as_str(), token.as_str()));
        let text = template.render(&messages, special, true)?;
        if text.contains(&format!("\\u{:04x}", u32::from(sign))) {
            return Err(Error::input(
                "the chat template escapes what is said, and what is said holds the name of a special token",
            )
            .hint("nothing tells such a name from the template's own; take it out"));
        }
        let ids = self.marked(&text, Some(sign))?;
        if ids.is_empty() {
            return Err(Error::input(
                "the chat template makes an empty text of the conversation",
            ));
        }
        Ok(ids)
    }

    /// The name of a special token that a text holds and that this tokenizer cannot read as text: it is a word of the
    /// vocabulary, too.
    ///
    /// # Errors
    /// A tokenizer that fails.
    pub fn unreadable(&self, text: &str) -> Result<Option<&str>> {
        if !self.names.occur_in(text) {
            return Ok(None);
        }
        Ok(self.names.control_in(&self.inside.ids(&self.inner, text)?))
    }

    /// The text of ids at the beginning of a row; special tokens are left out.
    ///
    /// # Errors
    /// A tokenizer that fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.decode_behind(&[], ids)
    }

    /// The text of ids behind others, of a response behind its prompt: what [`Self::encode_behind`] was given. Special tokens
    /// are left out.
    ///
    /// # Errors
    /// A tokenizer that fails.
    pub fn decode_behind(&self, before: &[u32], ids: &[u32]) -> Result<String> {
        if self.begins_behind(before) {
            self.inner
                .decode(ids, true)
                .map_err(|error| failed("decode token ids", &error))
        } else {
            self.inside.decode(&self.inner, ids)
        }
    }

    /// Sampled ids without the special tokens that decoding leaves out; one that ends them stays where they `ended`.
    pub fn shown(&self, ids: &[u32], ended: bool) -> Vec<u32> {
        let added = self.inner.get_added_vocabulary();
        let hidden = |id: u32| {
            let token = self.inner.id_to_token(id);
            token.is_none_or(|token| added.is_special_token(&token))
        };
        let (said, end) = match ids.split_last() {
            Some((end, said)) if ended => (said, Some(*end)),
            _ => (ids, None),
        };
        let said = said.iter().copied().filter(|id| !hidden(*id));
        said.chain(end).collect()
    }

    /// Whether a text behind these ids is a beginning.
    fn begins_behind(&self, before: &[u32]) -> bool {
        match before {
            [] => true,
            [only] if *only == self.bos => true,
            [.., last] => before == self.opening || self.begins_behind_mark(*last),
        }
    }

    /// Whether a text directly behind an id is a beginning, wherever it stands in its row.
    fn begins_behind_mark(&self, id: u32) -> bool {
        self.inside.begins_behind_marks
            && self.names.is_control(id)
            && !self.names.is_normalized(id)
    }

    fn text(&self, text: &str, begins: bool) -> Result<Vec<u32>> {
        let ids = if begins {
            let encoding = self
                .inner
                .encode_fast(text, false)
                .map_err(|error| failed("encode a text", &error))?;
            encoding.get_ids().to_vec()
        } else {
            self.inside.ids(&self.inner, text)?
        };
        match self.names.control_in(&ids) {
            None => Ok(ids),
            Some(name) => Err(Error::input(format!(
                "a text holds {name:?}, which this tokenizer can only read as its special token"
            ))
            .hint("take it out of the text")),
        }
    }

    /// The ids of a text with marks, and what the tokenizer puts before a text.
    fn opened(&self, text: &str, sign: Option<char>) -> Result<Vec<u32>> {
        let ids = [self.opening.clone(), self.marked(text, sign)?].concat();
        Ok(if ids.is_empty() { vec![self.bos] } else { ids })
    }

    /// The ids of a text in which unbroken names are special tokens.
    fn marked(&self, text: &str, sign: Option<char>) -> Result<Vec<u32>> {
        let mut ids: Vec<u32> = Vec::new();
        for part in self.names.parts(&self.inner, text, sign) {
            match part {
                Part::Mark(id) => ids.push(id),
                Part::Text(text) => {
                    let begins = ids.last().is_none_or(|&last| self.begins_behind_mark(last));
                    ids.extend(self.text(&text, begins)?);
                }
            }
        }
        Ok(ids)
    }
}

#[cfg(test)]
mod tests;
