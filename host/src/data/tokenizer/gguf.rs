//! The tokenizer in the metadata of a GGUF file, as the tokenizer.json it stands for.
//!
//! Two kinds of vocabulary: `gpt2`, byte-level BPE with its merges, cut beforehand as `tokenizer.ggml.pre` says; and
//! `llama`, `SentencePiece`'s BPE, whose merges follow from the scores of the tokens.

use serde_json::{Map, Value, json};

use super::pre_tokenizer::PreTokenizer;
use super::{BOS_NAMES, Chats, SpecialTokens, Tokenizer};
use crate::data::chat::ChatTemplate;
use crate::data::gguf::Gguf;
use crate::error::Result;

const MODEL: &str = "tokenizer.ggml.model";
const CHAT: &str = "tokenizer.chat_template";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";
const TYPES: &str = "tokenizer.ggml.token_type";

/// `token_type` of the token for what has none.
const UNKNOWN: usize = 2;
/// `token_type` of tokens that decoding leaves out, such as BOS and the marks of turns.
const CONTROL: usize = 3;
/// `token_type` of tokens that are found in a text before it is cut, and are text themselves.
const USER_DEFINED: usize = 4;

/// `SentencePiece`'s mark of a space.
const SPACE: &str = "▁";

/// Builds the tokenizer of an opened file.
pub(super) fn tokenizer(gguf: &Gguf) -> Result<Tokenizer> {
    let tokens = gguf.required(TOKENS, gguf.texts(TOKENS)?)?;
    let model = gguf.required(MODEL, gguf.text(MODEL)?)?;
    let special = special_tokens(gguf, &tokens, model == "llama")?;
    let (mut file, adds_bos) = match model {
        "gpt2" => byte_level(gguf, &tokens)?,
        "llama" => (sentence_piece(gguf, &tokens, special.get("unk"))?, true),
        other => {
            return Err(gguf.refused(format!(
                "{MODEL} is {other:?}; accepted: \"gpt2\" (byte-level BPE), \"llama\" (SentencePiece)"
            )));
        }
    };
    let flag = |kind: &str| gguf.flag(&format!("tokenizer.ggml.add_{kind}_token"));
    let around = Around {
        bos: flag("bos")?.unwrap_or(adds_bos),
        eos: flag("eos")?.unwrap_or(false),
    };
    file["version"] = json!("1.0");
    file["truncation"] = Value::Null;
    file["padding"] = Value::Null;
    file["added_tokens"] = added_tokens(gguf, &tokens)?;
    file["post_processor"] = around.to_json(&special, &tokens);
    let inner = tokenizers::Tokenizer::from_bytes(file.to_string())
        .map_err(|error| gguf.refused(format!("its tokenizer is inconsistent: {error}")))?;
    let chat = Chats {
        default: gguf.text(CHAT)?.map(ChatTemplate::new),
        named: gguf
            .keys_below(&format!("{CHAT}."))
            .into_iter()
            .map(str::to_owned)
            .collect(),
    };
    Tokenizer::assemble(inner, special, chat).map_err(|error| error.context(gguf.path().display()))
}

/// The texts of BOS, EOS and, where named, of the unknown and the padding token.
fn special_tokens(gguf: &Gguf, tokens: &[&str], sentence_piece: bool) -> Result<SpecialTokens> {
    let mut special = SpecialTokens::default();
    // What llama.cpp takes where a `SentencePiece` vocabulary does not say; byte-level ones have no such habit.
    for (kind, key, habit) in [
        ("bos", "bos", Some(1)),
        ("eos", "eos", Some(2)),
        ("unk", "unknown", Some(0)),
        ("pad", "padding", None),
    ] {
        let key = format!("tokenizer.ggml.{key}_token_id");
        let Some(id) = gguf.count(&key)?.or(habit.filter(|_| sentence_piece)) else {
            continue;
        };
        let token = tokens.get(id).ok_or_else(|| {
            gguf.refused(format!(
                "{key} is {id}; accepted: below the number of tokens, which is {}",
                tokens.len()
            ))
        })?;
        special.set(kind, *token);
    }
    let types = gguf.counts(TYPES)?.unwrap_or_default();
    let marks = |name: &str| {
        let id = tokens.iter().position(|token| *token == name);
        id.is_some_and(|id| types.get(id).is_none_or(|kind| *kind == CONTROL))
    };
    if special.get("bos").is_none()
        && let Some(known) = BOS_NAMES.iter().find(|known| marks(known))
    {
        special.set("bos", *known);
    }
    for kind in ["bos", "eos"] {
        if special.get(kind).is_none() {
            return Err(gguf.refused(format!(
                "the metadata has no tokenizer.ggml.{kind}_token_id"
            )));
        }
    }
    Ok(special)
}

/// Model, pre-tokenizer and decoder of a byte-level vocabulary, and whether texts begin with BOS by habit.
fn byte_level(gguf: &Gguf, tokens: &[&str]) -> Result<(Value, bool)> {
    let name = gguf.text(PRE)?.ok_or_else(|| {
        gguf.refused(format!(
            "the metadata has no {PRE}, which says how a text is cut before it is merged; accepted: {}",
            PreTokenizer::names()
        ))
        .hint(
            "converters of before May 2024 left it out, and any guess would give wrong ids in silence: take a newer file of the \
             model, or its Hugging Face folder",
        )
    })?;
    let pre = PreTokenizer::named(name).ok_or_else(|| {
        gguf.refused(format!(
            "{PRE} is {name:?}; accepted: {}",
            PreTokenizer::names()
        ))
    })?;
    let merges = gguf.required(MERGES, gguf.texts(MERGES)?)?;
    let merges = merges
        .iter()
        .map(|merge| merge.split_once(' '))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| gguf.refused(format!("{MERGES} holds an entry that is not two tokens")))?;
    let file = json!({
        "normalizer": pre.normalizer(),
        "pre_tokenizer": pre.to_json(),
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": pre.is_llama3(),
            "vocab": vocabulary(tokens), "merges": merges,
        },
    });
    Ok((file, pre.is_llama3()))
}

/// Model, normalizer and decoder of a `SentencePiece` vocabulary. Spaces become `▁`, one is put in front of a text unless
/// the file says otherwise, and what has no token falls back to its bytes.
fn sentence_piece(gguf: &Gguf, tokens: &[&str], unknown: Option<&str>) -> Result<Value> {
    let scores = gguf.required(SCORES, gguf.reals(SCORES)?)?;
    if scores.len() != tokens.len() {
        return Err(gguf.refused(format!(
            "{SCORES} has {} entries, {TOKENS} has {}; accepted: as many",
            scores.len(),
            tokens.len()
        )));
    }
    let key = "tokenizer.ggml.add_space_prefix";
    let prefixed = gguf.flag(key)?.unwrap_or(true);
    let mut normalizers =
        vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefixed {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": SPACE}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(json!({
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocabulary(tokens), "merges": merges_of_scores(tokens, &scores),
        },
    }))
}

/// The merges that a `SentencePiece` vocabulary implies: every way to put a token together from two others, tokens of a
/// higher score first. Among the ways of equal score the longer left part comes first, as in transformers.
fn merges_of_scores<'a>(tokens: &[&'a str], scores: &[f32]) -> Vec<(&'a str, &'a str)> {
    let known: std::collections::HashSet<&str> = tokens.iter().copied().collect();
    let mut merges = Vec::new();
    for (token, score) in tokens.iter().zip(scores) {
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if known.contains(left) && known.contains(right) {
                merges.push((*score, left, right));
            }
        }
    }
    merges.sort_by(|a, b| {
        let length = |text: &str| text.chars().count();
        b.0.total_cmp(&a.0)
            .then_with(|| length(b.1).cmp(&length(a.1)))
            .then_with(|| length(b.2).cmp(&length(a.2)))
    });
    merges
        .into_iter()
        .map(|(_, left, right)| (left, right))
        .collect()
}

fn vocabulary(tokens: &[&str]) -> Map<String, Value> {
    let entries = tokens.iter().enumerate();
    entries
        .map(|(id, token)| ((*token).to_owned(), json!(id)))
        .collect()
}

/// The tokens that are found in a text before it is cut.
fn added_tokens(gguf: &Gguf, tokens: &[&str]) -> Result<Value> {
    let types = gguf.counts(TYPES)?.unwrap_or_default();
    if !types.is_empty() && types.len() != tokens.len() {
        return Err(gguf.refused(format!(
            "{TYPES} has {} entries, {TOKENS} has {}; accepted: as many",
            types.len(),
            tokens.len()
        )));
    }
    let added = tokens.iter().zip(&types).enumerate();
    let added = added.filter(|(_, (_, kind))| matches!(**kind, UNKNOWN | CONTROL | USER_DEFINED));
    Ok(added
        .map(|(id, (token, kind))| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": *kind != USER_DEFINED})
        })
        .collect())
}

/// What a prompt is put between.
struct Around {
    bos: bool,
    eos: bool,
}

impl Around {
    fn to_json(&self, special: &SpecialTokens, tokens: &[&str]) -> Value {
        let token = |kind: &str, wanted: bool| special.get(kind).filter(|_| wanted);
        let (bos, eos) = (token("bos", self.bos), token("eos", self.eos));
        if bos.is_none() && eos.is_none() {
            return Value::Null;
        }
        let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
        let mark = |token: &str| json!({"SpecialToken": {"id": token, "type_id": 0}});
        let row = |id: &str| {
            bos.map(mark)
                .into_iter()
                .chain([text(id)])
                .chain(eos.map(mark))
        };
        let named: Map<String, Value> = [bos, eos]
            .into_iter()
            .flatten()
            .map(|token| {
                let id = tokens.iter().position(|known| *known == token);
                (
                    token.to_owned(),
                    json!({"id": token, "ids": [id], "tokens": [token]}),
                )
            })
            .collect();
        json!({
            "type": "TemplateProcessing", "special_tokens": named,
            "single": row("A").collect::<Vec<_>>(), "pair": row("A").chain(row("B")).collect::<Vec<_>>(),
        })
    }
}
