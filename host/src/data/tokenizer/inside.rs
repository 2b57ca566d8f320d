//! A tokenizer's parts for a text that goes on inside a row: as they are, but for what they do to the beginning of a text.
//!
//! `SentencePiece`'s normalizer puts `▁` in front of every text, `Metaspace` and `ByteLevel` may do the same, and decoders take
//! it off again. Behind a prompt there is no beginning: what is put there would be a space that is not in the data.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokenizers::{
    Decoder as _, DecoderWrapper, Model as _, NormalizerWrapper, OffsetType, PreTokenizer as _,
    PreTokenizerWrapper,
};

use super::failed;
use crate::error::{Error, Result};

/// The parts that treat a beginning differently, without that.
pub(super) struct Inside {
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    decoder: Option<DecoderWrapper>,
    /// Whether a text directly behind a special token is a beginning too: all normalizers and some pre-tokenizers treat
    /// every stretch between two special tokens as a text.
    pub(super) begins_behind_marks: bool,
}

impl Inside {
    pub(super) fn of(inner: &tokenizers::Tokenizer) -> Result<Self> {
        let mut begins_behind_marks = false;
        Ok(Self {
            normalizer: part(inner.get_normalizer(), &mut begins_behind_marks)?,
            pre_tokenizer: part(inner.get_pre_tokenizer(), &mut begins_behind_marks)?,
            // Only what puts something in front tells where beginnings are.
            decoder: part(inner.get_decoder(), &mut false)?,
            begins_behind_marks,
        })
    }

    /// The ids of a text that goes on.
    pub(super) fn ids(&self, inner: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>> {
        let fail = |error| failed("encode a text", &error);
        let mut row = inner
            .get_added_vocabulary()
            .extract_and_normalize(self.normalizer.as_ref(), text);
        if let Some(pre_tokenizer) = &self.pre_tokenizer {
            pre_tokenizer.pre_tokenize(&mut row).map_err(fail)?;
        }
        row.tokenize(|piece| inner.get_model().tokenize(piece.get()))
            .map_err(fail)?;
        let encoding = row.into_encoding(None, 0, OffsetType::None).map_err(fail)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of ids that go on; special tokens are left out.
    pub(super) fn decode(&self, inner: &tokenizers::Tokenizer, ids: &[u32]) -> Result<String> {
        let Some(decoder) = &self.decoder else {
            return inner
                .decode(ids, true)
                .map_err(|error| failed("decode token ids", &error));
        };
        let added = inner.get_added_vocabulary();
        let tokens = ids.iter().filter_map(|&id| {
            let token = inner.id_to_token(id)?;
            (!added.is_special_token(&token)).then_some(token)
        });
        decoder
            .decode(tokens.collect())
            .map_err(|error| failed("decode token ids", &error))
    }
}

/// A part without what it does to the beginning of a text; sets `everywhere` where it did that behind special tokens too.
fn part<T: Serialize + DeserializeOwned>(
    part: Option<&T>,
    everywhere: &mut bool,
) -> Result<Option<T>> {
    let fail = |error: serde_json::Error| {
        Error::internal(format!("a part of the tokenizer cannot be copied: {error}"))
    };
    let Some(part) = part else { return Ok(None) };
    let described = serde_json::to_value(part).map_err(fail)?;
    without_beginning(described, everywhere)
        .map(serde_json::from_value)
        .transpose()
        .map_err(fail)
}

/// The description of a part, as tokenizer.json has it, without what it does to the beginning of a text; `None` where it does
/// nothing else.
fn without_beginning(mut part: Value, everywhere: &mut bool) -> Option<Value> {
    let set = |part: &mut Value, key: &str, value: Value| {
        if let Some(place) = part.get_mut(key) {
            *place = value;
        }
    };
    match part["type"].as_str() {
        Some("Sequence") => {
            for list in ["normalizers", "pretokenizers", "decoders"] {
                if let Some(parts) = part.get_mut(list).and_then(Value::as_array_mut) {
                    *parts = std::mem::take(parts)
                        .into_iter()
                        .filter_map(|part| without_beginning(part, everywhere))
                        .collect();
                }
            }
        }
        Some("Prepend") => {
            *everywhere = true;
            return None;
        }
        Some("Metaspace") => {
            *everywhere |= part["prepend_scheme"] == "always";
            set(&mut part, "prepend_scheme", json!("never"));
        }
        Some("ByteLevel") => {
            *everywhere |= part["add_prefix_space"] == true;
            set(&mut part, "add_prefix_space", json!(false));
        }
        Some("Strip") => {
            // The normalizer's and the decoder's.
            set(&mut part, "strip_left", json!(false));
            set(&mut part, "start", json!(0));
        }
        _ => {}
    }
    Some(part)
}
