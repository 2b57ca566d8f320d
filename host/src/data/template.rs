//! The prompt template: the text around a prompt, the same in training, sampling and evaluation.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where the prompt goes.
const PLACE: &str = "{prompt}";

/// The name that stands for [`ALPACA`].
const ALPACA_NAME: &str = "alpaca";

/// The format of Alpaca's instructions without an input (Taori et al., 2023), which AlpacaFarm uses too.
const ALPACA: &str = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\n{prompt}\n\n### Response:";

/// A text with `{prompt}` in it exactly once, or the name `alpaca`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PromptTemplate(String);

impl PromptTemplate {
    /// A template from its text, or from the name `alpaca`.
    ///
    /// # Errors
    /// A text without `{prompt}`, or with more than one.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let places = Self(text.clone()).text().matches(PLACE).count();
        if places != 1 {
            return Err(Error::input(format!(
                "the prompt template {text:?} holds {PLACE} {places} times; accepted: a text that holds it once, or \
                 {ALPACA_NAME:?}"
            )));
        }
        Ok(Self(text))
    }

    /// The text with `{prompt}` in it.
    fn text(&self) -> &str {
        match self.0.as_str() {
            ALPACA_NAME => ALPACA,
            text => text,
        }
    }

    /// The template with a prompt in its place. Whatever the prompt holds, `{prompt}` included, stays as it is.
    pub fn render(&self, prompt: &str) -> String {
        self.text().replacen(PLACE, prompt, 1)
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
        json_schema!({ "type": "string", "pattern": r"^alpaca$|\{prompt\}" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_takes_its_place_once() {
        let template = PromptTemplate::new("Q: {prompt}\nA:").unwrap();
        assert_eq!(
            template.render("what is {prompt}?"),
            "Q: what is {prompt}?\nA:"
        );
        assert_eq!(PromptTemplate::default().render("p"), "p");
    }

    #[test]
    fn alpaca_is_a_name() {
        let template: PromptTemplate = serde_json::from_str("\"alpaca\"").unwrap();
        let text = template.render("Name a bird.");
        assert!(text.contains("### Instruction:\nName a bird.\n"));
        assert!(text.ends_with("### Response:"));
        assert_eq!(serde_json::to_string(&template).unwrap(), "\"alpaca\"");
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
