//! The tokenizer of a model folder (`tokenizer.json`) or of a GGUF file, which of its tokens begin and end a text, and the
//! model's chat template.

mod beside;
mod gguf;
mod ids;
mod inside;
mod names;
mod pieces;
mod pre_tokenizer;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use serde_json::json;

use super::chat::ChatTemplate;
use super::gguf::{Gguf, is_gguf};
use crate::error::{Error, Result};
use crate::pipeline::atomic::write_atomic;
use beside::Beside;
use inside::Inside;
use names::Names;

/// The tokenizer itself.
pub const FILE: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";
const SPECIAL: &str = "special_tokens_map.json";
const CHAT: &str = "chat_template.jinja";
/// The files beside tokenizer.json that say more about it, where they are there.
pub const BESIDE: [&str; 3] = [CONFIG, SPECIAL, CHAT];

/// Names that beginnings and ends of texts have in the vocabularies in use, tried where no file beside tokenizer.json
/// says which tokens they are. GPT-2 and Qwen begin a text with what ends the one before.
const BOS_NAMES: [&str; 4] = ["<s>", "<bos>", "<|begin_of_text|>", "<|endoftext|>"];
const EOS_NAMES: [&str; 4] = ["</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>"];

/// Special tokens by their purpose (`bos`, `eos`, `unk`, `pad`), each as the vocabulary spells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct SpecialTokens(BTreeMap<&'static str, String>);

impl SpecialTokens {
    fn set(&mut self, kind: &'static str, token: impl Into<String>) {
        self.0.insert(kind, token.into());
    }

    fn get(&self, kind: &str) -> Option<&str> {
        self.0.get(kind).map(String::as_str)
    }
}

/// The chat templates of a model: the one that is used, and the names of those that have another purpose.
#[derive(Default)]
struct Chats {
    default: Option<ChatTemplate>,
    named: Vec<String>,
}

/// Text to token ids and back; `ids` has the methods that do it.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    inside: Inside,
    names: Names,
    /// What the post-processor puts before a text.
    opening: Vec<u32>,
    special: SpecialTokens,
    chats: Chats,
    bos: u32,
    eos: u32,
    vocab_size: usize,
}

impl Tokenizer {
    /// A tokenizer whose texts begin with the token `bos` and end with `eos`, given by their text, such as `<s>`.
    pub fn new(inner: tokenizers::Tokenizer, bos: &str, eos: &str) -> Result<Self> {
        let mut special = SpecialTokens::default();
        special.set("bos", bos);
        special.set("eos", eos);
        Self::assemble(inner, special, Chats::default())
    }

    /// A tokenizer out of its parts; `special` holds at least BOS and EOS.
    fn assemble(
        mut inner: tokenizers::Tokenizer,
        special: SpecialTokens,
        chats: Chats,
    ) -> Result<Self> {
        // A file may ask to cut or pad what it encodes; batches are ragged, and lengths are this program's business.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| failed("set up", &error))?;
        // Names of special tokens are text; `Names` finds those that a template wrote.
        inner.set_encode_special_tokens(true);
        let id = |kind: &str| {
            let token = special.get(kind).unwrap_or_default();
            inner
                .token_to_id(token)
                .ok_or_else(|| Error::input(format!("the tokenizer has no token {token:?}")))
        };
        let (bos, eos) = (id("bos")?, id("eos")?);
        let most = inner.get_vocab(true).into_values().max();
        Ok(Self {
            bos,
            eos,
            vocab_size: most.map_or(0, |id| id as usize + 1),
            inside: Inside::of(&inner)?,
            names: Names::of(&inner, [bos, eos]),
            opening: ids::opening(&inner)?,
            special,
            chats,
            inner,
        })
    }

    /// Loads a model folder's tokenizer, a tokenizer.json itself, or the tokenizer of a .gguf file.
    ///
    /// In a folder, BOS and EOS are what `tokenizer_config.json` names, else `special_tokens_map.json`, else the ids of
    /// config.json (the first where it lists several), else an added token with a name in common use.
    pub fn load(path: &Path) -> Result<Self> {
        if path.is_dir() {
            Self::from_file(&path.join(FILE))
        } else if is_gguf(path) {
            gguf::tokenizer(&Gguf::open(path)?)
        } else {
            Self::from_file(path)
        }
    }

    fn from_file(file: &Path) -> Result<Self> {
        let text = std::fs::read(file).map_err(|error| Error::io("read", file, &error))?;
        let inner = tokenizers::Tokenizer::from_bytes(text)
            .map_err(|error| Error::input(format!("{}: {error}", file.display())))?;
        let beside = Beside::read(file)?;
        let mut special = SpecialTokens::default();
        for (kind, known) in [("bos", BOS_NAMES.as_slice()), ("eos", &EOS_NAMES)] {
            let token = beside.token(&inner, kind, known).ok_or_else(|| {
                let known = known.join(", ");
                Error::input(format!(
                    "{}: no {kind} token is named beside it, and it has none of {known}",
                    file.display()
                ))
                .hint(format!("name it in {CONFIG}: {{\"{kind}_token\": \"…\"}}"))
            })?;
            special.set(kind, token);
        }
        for kind in ["unk", "pad"] {
            if let Some(token) = beside.named(kind) {
                special.set(kind, token);
            }
        }
        Self::assemble(inner, special, beside.chats(file))
            .map_err(|error| error.context(file.display()))
    }

    /// The model's own chat template, if it has one.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chats.default.as_ref()
    }

    /// The token that begins a text.
    pub fn bos(&self) -> u32 {
        self.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> u32 {
        self.eos
    }

    /// One more than the highest id, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The token of an id as the vocabulary spells it.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Whether a token was added to the vocabulary, as marks of turns and padding are.
    pub fn is_added(&self, id: u32) -> bool {
        let added = self.inner.get_added_vocabulary();
        added.get_added_tokens_decoder().contains_key(&id)
    }

    /// The id of a token as the vocabulary spells it.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Writes tokenizer.json and beside it the `tokenizer_config.json` that transformers needs, chat template included.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let text = self
            .inner
            .to_string(true)
            .map_err(|error| failed("serialise the tokenizer", &error))?;
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": false,
        });
        for (kind, token) in &self.special.0 {
            config[format!("{kind}_token")] = json!(token);
        }
        if let Some(chat) = &self.chats.default {
            config["chat_template"] = json!(chat.source());
        }
        write_atomic(&dir.join(FILE), text.as_bytes())?;
        write_atomic(&dir.join(CONFIG), format!("{config:#}\n").as_bytes())
    }
}

fn failed(action: &str, error: &dyn Display) -> Error {
    Error::input(format!("cannot {action}: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Words split at spaces; `special` are added tokens.
    fn file(words: &[&str]) -> String {
        let vocab: serde_json::Map<_, _> = words
            .iter()
            .enumerate()
            .map(|(id, word)| ((*word).to_owned(), json!(id)))
            .collect();
        let special = |token: &str| {
            words.iter().position(|word| *word == token).map(|id| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        };
        let added: Vec<_> = words
            .iter()
            .filter(|w| w.starts_with('<'))
            .filter_map(|w| special(w))
            .collect();
        json!({
            "version": "1.0", "added_tokens": added, "normalizer": null, "post_processor": null, "decoder": null,
            "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
            "padding": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}
        })
        .to_string()
    }

    fn folder(words: &[&str], files: &[(&str, Value)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join(FILE), file(words)).expect("written");
        for (name, value) in files {
            std::fs::write(dir.path().join(name), value.to_string()).expect("written");
        }
        dir
    }

    const WORDS: [&str; 6] = ["<unk>", "<s>", "</s>", "red", "ball", "<end>"];

    #[test]
    fn encodes_without_special_tokens_and_never_cuts() -> Result<()> {
        let dir = folder(&WORDS, &[]);
        let tokenizer = Tokenizer::load(dir.path())?;
        assert_eq!(tokenizer.encode("red ball red ball blue")?, [3, 4, 3, 4, 0]);
        assert_eq!(tokenizer.decode(&[1, 3, 4, 2])?, "red ball");
        assert_eq!(
            (tokenizer.bos(), tokenizer.eos(), tokenizer.vocab_size()),
            (1, 2, 6)
        );
        assert_eq!(tokenizer.encode_prompt("")?, [1]);
        assert_eq!(tokenizer.id_to_token(4).as_deref(), Some("ball"));
        assert_eq!(tokenizer.id_to_token(6), None);
        Ok(())
    }

    #[test]
    fn special_tokens_come_from_the_files_beside_it_in_their_order() -> Result<()> {
        let by_name = json!({"eos_token": {"content": "<end>"}, "bos_token": "</s>"});
        let model = json!({"eos_token_id": [4, 2], "bos_token_id": 3});
        let dir = folder(&WORDS, &[("config.json", model.clone())]);
        let tokenizer = Tokenizer::load(dir.path())?;
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (3, 4));
        for name in [CONFIG, "special_tokens_map.json"] {
            let dir = folder(
                &WORDS,
                &[("config.json", model.clone()), (name, by_name.clone())],
            );
            let tokenizer = Tokenizer::load(&dir.path().join(FILE))?;
            assert_eq!((tokenizer.bos(), tokenizer.eos()), (2, 5));
        }
        Ok(())
    }

    #[test]
    fn a_word_that_is_called_like_a_mark_begins_no_text() -> Result<()> {
        let words = ["<unk>", "<s>", "<|endoftext|>", "red"];
        let dir = folder(&words, &[]);
        assert_eq!(Tokenizer::load(dir.path())?.bos(), 1);
        let mut parsed: Value = serde_json::from_str(&file(&words)).expect("JSON");
        let added = parsed["added_tokens"].as_array_mut().expect("a list");
        added.retain(|token| token["content"] != "<s>");
        std::fs::write(dir.path().join(FILE), parsed.to_string()).expect("written");
        let tokenizer = Tokenizer::load(dir.path())?;
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (2, 2));
        Ok(())
    }

    #[test]
    fn a_saved_copy_is_the_same() -> Result<()> {
        let dir = folder(&WORDS, &[(CONFIG, json!({"eos_token": "<end>"}))]);
        let tokenizer = Tokenizer::load(dir.path())?;
        let copy = tempfile::tempdir().expect("a temporary folder");
        tokenizer.save(copy.path())?;
        let again = Tokenizer::load(copy.path())?;
        assert_eq!((again.bos(), again.eos()), (tokenizer.bos(), 5));
        assert_eq!(again.encode("ball red")?, tokenizer.encode("ball red")?);
        Ok(())
    }

    #[test]
    fn errors_name_the_file_and_what_is_missing() {
        let load = |dir: &tempfile::TempDir| Tokenizer::load(dir.path()).err().expect("refused");
        let error = load(&folder(&["<unk>", "<s>", "red"], &[]));
        assert!(error.to_string().contains("no eos token"), "{error}");
        assert!(
            error
                .hint_text()
                .is_some_and(|hint| hint.contains("eos_token"))
        );
        let error = load(&folder(&WORDS, &[(CONFIG, json!({"eos_token": "<gone>"}))]));
        assert!(error.to_string().contains("no token \"<gone>\""), "{error}");
        let empty = tempfile::tempdir().expect("a temporary folder");
        let error = load(&empty);
        assert!(
            error.to_string().contains(FILE) && error.exit_code() == 2,
            "{error}"
        );
        std::fs::write(empty.path().join(FILE), "{}").expect("written");
        assert_eq!(load(&empty).exit_code(), 2);
    }

    #[test]
    fn templates_with_other_names_are_named_where_none_is_the_default() -> Result<()> {
        let entry = |name: &str| json!({"name": name, "template": "{{ bos_token }}red"});
        let asked = [crate::data::chat::Message::new(
            crate::data::chat::Role::User,
            "ball",
        )];
        let files = |names: &[&str]| {
            let list: Vec<_> = names.iter().map(|name| entry(name)).collect();
            folder(&WORDS, &[(CONFIG, json!({ "chat_template": list }))])
        };
        let tokenizer = Tokenizer::load(files(&["rag", "default"]).path())?;
        assert_eq!(tokenizer.encode_chat(&asked)?, [1, 3]);
        let dir = files(&["tool_use", "rag"]);
        let more = dir.path().join("additional_chat_templates");
        std::fs::create_dir(&more).expect("a folder");
        std::fs::write(more.join("judge.jinja"), "red").expect("written");
        let error = Tokenizer::load(dir.path())?
            .encode_chat(&asked)
            .expect_err("none");
        let text = error.to_string();
        assert!(
            text.contains("named tool_use, rag, judge and none named default"),
            "{text}"
        );
        let plain = Tokenizer::load(folder(&WORDS, &[]).path())?;
        let error = plain.encode_chat(&asked).expect_err("none");
        assert_eq!(error.to_string(), "the model has no chat template");
        Ok(())
    }
}
