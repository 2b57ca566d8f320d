//! The files beside tokenizer.json: which of its tokens are special, and the chat template.

use std::path::Path;

use serde_json::{Value, json};

use super::{CHAT, CONFIG, Chats, SPECIAL};
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
        // Qwen's vocabulary has a word `<s>`, which marks nothing.
        let marks = inner.get_added_vocabulary().get_added_tokens_decoder();
        let by_habit = || {
            let marks = |token: &str| Some(marks.contains_key(&inner.token_to_id(token)?));
            let token = known.iter().find(|token| marks(token) == Some(true))?;
            Some((*token).to_owned())
        };
        self.named(kind).or_else(by_id).or_else(by_habit)
    }

    /// The chat templates: the file of its own, else the one in `tokenizer_config.json`, which is a text or a list of named texts
    /// with one named `default`; and the names of the others, which may lie in a folder beside `file`.
    pub(super) fn chats(self, file: &Path) -> Chats {
        let in_config = &self.named[0]["chat_template"];
        let list = in_config.as_array().map_or(&[][..], Vec::as_slice);
        let name = |entry: &Value| entry["name"].as_str().map(str::to_owned);
        let default = list.iter().find(|entry| entry["name"] == "default");
        let of_config = in_config
            .as_str()
            .or_else(|| default.and_then(|entry| entry["template"].as_str()));
        let mut named: Vec<String> = list.iter().filter_map(name).collect();
        named.retain(|name| name != "default");
        named.extend(additional(file));
        let source = self.chat.or_else(|| of_config.map(str::to_owned));
        Chats {
            default: source.map(ChatTemplate::new),
            named,
        }
    }
}

/// The names of the templates in transformers' folder for more than one; none where it cannot be read.
fn additional(file: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(file.with_file_name("additional_chat_templates"));
    let paths = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()));
    let mut names: Vec<String> = paths
        .filter(|path| path.extension().is_some_and(|kind| kind == "jinja"))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    names
}
