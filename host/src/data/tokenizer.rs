//! The tokenizer of a model folder (`tokenizer.json`), and which of its tokens begin and end a text.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::pipeline::atomic::write_atomic;

const FILE: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";

/// Names that beginnings and ends of texts have in the vocabularies in use, tried where no file beside tokenizer.json
/// says which tokens they are.
const BOS_NAMES: [&str; 3] = ["<s>", "<bos>", "<|begin_of_text|>"];
const EOS_NAMES: [&str; 4] = ["</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>"];

/// Text to token ids and back.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos: u32,
    eos: u32,
    vocab_size: usize,
}

impl Tokenizer {
    /// A tokenizer whose texts begin with the token `bos` and end with `eos`, given by their text, such as `<s>`.
    pub fn new(mut inner: tokenizers::Tokenizer, bos: &str, eos: &str) -> Result<Self> {
        // A file may ask to cut or pad what it encodes; batches are ragged, and lengths are this program's business.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| failed("set up", &error))?;
        let id = |token: &str| {
            inner
                .token_to_id(token)
                .ok_or_else(|| Error::input(format!("the tokenizer has no token {token:?}")))
        };
        let (bos, eos) = (id(bos)?, id(eos)?);
        let most = inner.get_vocab(true).into_values().max();
        Ok(Self {
            bos,
            eos,
            vocab_size: most.map_or(0, |id| id as usize + 1),
            inner,
        })
    }

    /// Loads a model folder's tokenizer, or a tokenizer.json itself.
    ///
    /// BOS and EOS are what `tokenizer_config.json` names, else `special_tokens_map.json`, else the ids of config.json
    /// (the first where it lists several), else a token with a name in common use.
    pub fn load(path: &Path) -> Result<Self> {
        let file = if path.is_dir() {
            path.join(FILE)
        } else {
            path.to_owned()
        };
        let text = std::fs::read(&file).map_err(|error| Error::io("read", &file, &error))?;
        let inner = tokenizers::Tokenizer::from_bytes(text)
            .map_err(|error| Error::input(format!("{}: {error}", file.display())))?;
        let beside = Beside::read(&file)?;
        let bos = beside.token(&inner, "bos", &BOS_NAMES);
        let eos = beside.token(&inner, "eos", &EOS_NAMES);
        let found = |token: Option<String>, name: &str, known: &[&str]| {
            token.ok_or_else(|| {
                let known = known.join(", ");
                Error::input(format!(
                    "{}: no {name} token is named beside it, and it has none of {known}",
                    file.display()
                ))
                .hint(format!("name it in {CONFIG}: {{\"{name}_token\": \"…\"}}"))
            })
        };
        let (bos, eos) = (
            found(bos, "bos", &BOS_NAMES)?,
            found(eos, "eos", &EOS_NAMES)?,
        );
        Self::new(inner, &bos, &eos).map_err(|error| error.context(file.display()))
    }

    /// The ids of a text without the tokens that a post-processor would add (no BOS, no EOS). Texts that are the names
    /// of special tokens become these tokens.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(text, false)
    }

    /// The ids of a prompt with what the tokenizer itself puts around a text, as transformers encodes it; a text that
    /// would have no token at all becomes BOS.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.ids(text, true)?;
        Ok(if ids.is_empty() { vec![self.bos] } else { ids })
    }

    fn ids(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, special)
            .map_err(|error| failed("encode a text", &error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of ids; special tokens are left out.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner
            .decode(ids, true)
            .map_err(|error| failed("decode token ids", &error))
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

    /// The id of a token as the vocabulary spells it.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Writes tokenizer.json and a `tokenizer_config.json` that transformers needs beside it.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let text = self
            .inner
            .to_string(true)
            .map_err(|error| failed("serialise the tokenizer", &error))?;
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": self.id_to_token(self.bos),
            "eos_token": self.id_to_token(self.eos),
            "clean_up_tokenization_spaces": false,
        });
        write_atomic(&dir.join(FILE), text.as_bytes())?;
        write_atomic(&dir.join(CONFIG), format!("{config:#}\n").as_bytes())
    }
}

fn failed(action: &str, error: &dyn Display) -> Error {
    Error::input(format!("cannot {action}: {error}"))
}

/// The files beside tokenizer.json that may name its special tokens; a missing file is an empty object.
struct Beside {
    named: [Value; 2],
    model: Value,
}

impl Beside {
    fn read(file: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path: PathBuf = file.with_file_name(name);
            match std::fs::read(&path) {
                Ok(text) => serde_json::from_slice(&text)
                    .map_err(|error| Error::input(format!("{}: {error}", path.display()))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(json!({})),
                Err(error) => Err(Error::io("read", &path, &error)),
            }
        };
        Ok(Self {
            named: [read(CONFIG)?, read("special_tokens_map.json")?],
            model: read("config.json")?,
        })
    }

    /// The text of the `bos` or `eos` token.
    fn token(&self, inner: &tokenizers::Tokenizer, kind: &str, known: &[&str]) -> Option<String> {
        let key = format!("{kind}_token");
        let by_name = self.named.iter().find_map(|file| match &file[&key] {
            Value::String(token) => Some(token.clone()),
            other => other["content"].as_str().map(str::to_owned),
        });
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
        by_name.or_else(by_id).or_else(by_habit)
    }
}

#[cfg(test)]
mod tests {
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
}
