//! The prompt template: what stands around a prompt, the same in training, sampling and evaluation.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::data::tokenizer::Tokenizer;
use crate::data::turns;
use crate::error::{Error, Result};

/// Where the prompt goes.
const PLACE: &str = "{prompt}";

/// The name that stands for the model's own chat template, with the prompt as the user's turn.
const CHAT_NAME: &str = "chat";

/// The name that stands for [`ALPACA`] and [`ALPACA_INPUT`].
const ALPACA_NAME: &str = "alpaca";

/// The format of Alpaca's instructions without an input (Taori et al., 2023), which AlpacaFarm uses too.
const ALPACA: &str = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\n{prompt}\n\n### Response:";

/// The same with an input: the prompt is the instruction, [`INPUT`] and the input.
const ALPACA_INPUT: &str = "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\n{prompt}\n\n### Response:";

/// What stands between instruction and input in Alpaca's format.
const INPUT: &str = "\n\n### Input:\n";

/// An instruction with what it is about, as a prompt: the template `alpaca` gives both their places.
pub fn with_input(instruction: &str, input: &str) -> String {
    if input.trim().is_empty() {
        return instruction.to_owned();
    }
    format!("{instruction}{INPUT}{input}")
}

/// A text with `{prompt}` in it exactly once, or a name: `alpaca`, `chat`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PromptTemplate(String);

impl PromptTemplate {
    /// A template from its text, or from a name: `alpaca`, `chat`.
    ///
    /// # Errors
    /// A text without `{prompt}`, or with more than one.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let places = text.matches(PLACE).count();
        if places != 1 && ![ALPACA_NAME, CHAT_NAME].contains(&text.as_str()) {
            return Err(Error::input(format!(
                "the prompt template {text:?} holds {PLACE} {places} times; accepted: a text that holds it once, \
                 {ALPACA_NAME:?}, or {CHAT_NAME:?}"
            )));
        }
        Ok(Self(text))
    }

    /// Whether prompts may be conversations of several turns ([`turns`]).
    pub fn takes_turns(&self) -> bool {
        self.0 == CHAT_NAME
    }

    /// The ids of a prompt with what stands around it, at least one. A text gets what the tokenizer puts before texts
    /// (BOS, where it does that); a chat template says itself where a BOS stands. Names of special tokens are these tokens in
    /// the template and text in the prompt.
    ///
    /// # Errors
    /// `chat` with a model that has no chat template, or whose template refuses the prompt; a prompt with a name that the
    /// tokenizer cannot read as text.
    pub fn encode(&self, tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<u32>> {
        let text = match self.0.as_str() {
            CHAT_NAME => return tokenizer.encode_chat(&turns::parsed(prompt)),
            ALPACA_NAME if prompt.contains(INPUT) => ALPACA_INPUT,
            ALPACA_NAME => ALPACA,
            text => text,
        };
        // Whatever the prompt holds, `{prompt}` included, stays as it is.
        let (before, behind) = text.split_once(PLACE).unwrap_or((text, ""));
        tokenizer.encode_between(before, prompt, behind)
    }
}

impl Default for PromptTemplate {
    /// The prompt alone.
    fn default() -> Self {
        Self(PLACE.to_owned())
    }
}

impl TryFrom<String> for PromptTemplate {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::new(text)
    }
}

impl From<PromptTemplate> for String {
    fn from(template: PromptTemplate) -> Self {
        template.0
    }
}

impl JsonSchema for PromptTemplate {
    fn schema_name() -> Cow<'static, str> {
        "PromptTemplate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^(alpaca|chat)$|\{prompt\}" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tokenizer whose tokens are bytes, so that ids can be read back.
    fn bytes(chat: Option<&str>) -> Tokenizer {
        let vocab: serde_json::Map<_, _> = (0..128u8)
            .map(|byte| (char::from(byte).to_string(), byte.into()))
            .chain([
                ("<s>".to_owned(), 128.into()),
                ("</s>".to_owned(), 129.into()),
            ])
            .collect();
        let special = |id: u32, content: &str| {
            serde_json::json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                               "normalized": false, "special": true})
        };
        let mark = serde_json::json!([{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]);
        let file = serde_json::json!({
            "version": "1.0", "added_tokens": [special(128, "<s>"), special(129, "</s>")], "normalizer": null,
            "pre_tokenizer": null, "decoder": {"type": "Fuse"}, "truncation": null, "padding": null,
            "post_processor": {"type": "TemplateProcessing", "single": mark, "pair": [],
                               "special_tokens": {"<s>": {"id": "<s>", "ids": [128], "tokens": ["<s>"]}}},
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
        });
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tokenizer.json"), file.to_string()).unwrap();
        if let Some(chat) = chat {
            std::fs::write(dir.path().join("chat_template.jinja"), chat).unwrap();
        }
        Tokenizer::load(dir.path()).unwrap()
    }

    /// The text of the ids behind BOS, which must be there once.
    fn encoded(template: &str, prompt: &str) -> String {
        let chat = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}>{% endif %}";
        let tokenizer = bytes(Some(chat));
        let template: PromptTemplate = serde_json::from_value(template.to_owned().into()).unwrap();
        let ids = template.encode(&tokenizer, prompt).unwrap();
        assert_eq!(ids.iter().filter(|id| **id == tokenizer.bos()).count(), 1);
        assert_eq!(ids[0], tokenizer.bos());
        tokenizer.decode(&ids).unwrap()
    }

    #[test]
    fn the_prompt_takes_its_place_once() {
        assert_eq!(
            encoded("Q: {prompt}\nA:", "what is {prompt}?"),
            "Q: what is {prompt}?\nA:"
        );
        let template = PromptTemplate::default();
        let tokenizer = bytes(None);
        let ids = template.encode(&tokenizer, "p").unwrap();
        assert_eq!(ids, tokenizer.encode_prompt("p").unwrap());
    }

    #[test]
    fn alpaca_has_one_format_without_and_one_with_an_input() {
        let text = encoded("alpaca", "Name a bird.");
        assert_eq!(
            text,
            "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n\
             ### Instruction:\nName a bird.\n\n### Response:"
        );
        let text = encoded("alpaca", "Translate.\n\n### Input:\nbird");
        assert_eq!(
            text,
            "Below is an instruction that describes a task, paired with an input that provides further context. Write a \
             response that appropriately completes the request.\n\n### Instruction:\nTranslate.\n\n### Input:\nbird\n\n\
             ### Response:"
        );
    }

    #[test]
    fn chat_is_the_models_own_template_with_one_bos() {
        assert_eq!(encoded("chat", "Name a bird."), "[user] Name a bird.\n>");
        assert_eq!(
            encoded("chat", "⟦system⟧\nBe brief.\n⟦user⟧\nName a bird."),
            "[system] Be brief.\n[user] Name a bird.\n>"
        );
        let template = PromptTemplate::new("chat").unwrap();
        assert_eq!(serde_json::to_string(&template).unwrap(), "\"chat\"");
        let error = template.encode(&bytes(None), "p").unwrap_err();
        assert!(error.to_string().contains("no chat template"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn other_texts_are_refused_with_what_is_accepted() {
        for text in ["", "prompt", "{prompt} {prompt}", "{Prompt}"] {
            let error = PromptTemplate::new(text).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("accepted: "), "{error}");
        }
    }
}
