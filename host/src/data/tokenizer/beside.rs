//! The files beside tokenizer.json: which of its tokens are special, and the chat template.

use std::path::Path;

use serde_json::{Value, json};

use super::{CHAT, CONFIG, SPECIAL};
use crate::data::chat::ChatTemplate;
use crate::error::{Error, Result};

/// What the files say; a missing file is an empty object.
pub(super) struct Beside {
    named: [Value; 2],
    model: Value,
    chat: Option<String>,
}

impl Beside {
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = |name: &str| {
            let path = file.with_file_name(name);
            match std::fs::read_to_string(&path) {
                Ok(text) => Ok(Some(text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(Error::io("read", &path, &error)),
            }
        };
        let read = |name: &str| match text(name)? {
            Some(text) => serde_json::from_str(&text).map_err(|error| {
                Error::input(format!("{}: {error}", file.with_file_name(name).display()))
            }),
            None => Ok(json!({})),
        };
        Ok(Self {
            named: [read(CONFIG)?, read(SPECIAL)?],
            model: read("config.json")?,
            chat: text(CHAT)?,
        })
    }

    /// The text of a special token that a file names.
    pub(super) fn named(&self, kind: &str) -> Option<String> {
        let key = format!("{kind}_token");
        self.named.iter().find_map(|file| match &file[&key] {
            Value::String(token) => Some(token.clone()),
            other => other["content"].as_str().map(str::to_owned),
        })
    }

    /// The text of the `bos` or `eos` token.
    pub(super) fn token(
        &self,
        inner: &tokenizers::Tokenizer,
        kind: &str,
        known: &[&str],
    ) -> Option<String> {
        let by_id = || {
            let id = match &self.model[format!("{kind}_token_id")] {
                Value::Array(ids) => ids.first()?.as_u64()?,
                id => id.as_u64()?,
            };
            inner.id_to_token(u32::try_from(id).ok()?)
        };
        let by_habit = || {
            let token = known
                .iter()
                .find(|token| inner.token_to_id(token).is_some())?;
            Some((*token).to_owned())
        };
        self.named(kind).or_else(by_id).or_else(by_habit)
    }

    /// The chat template: the file of its own, else the one in `tokenizer_config.json`, which is a text or a list of named
    /// texts with one named `default`.
    pub(super) fn chat(self) -> Option<ChatTemplate> {
        let of_config = || match &self.named[0]["chat_template"] {
            Value::String(text) => Some(text.clone()),
            Value::Array(named) => {
                let default = named.iter().find(|entry| entry["name"] == "default")?;
                default["template"].as_str().map(str::to_owned)
            }
            _ => None,
        };
        self.chat.or_else(of_config).map(ChatTemplate::new)
    }
}
