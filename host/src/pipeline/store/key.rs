//! What determines a stage's result, and its hash: the artifact's name.

use std::borrow::Cow;
use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::pipeline::store::StageRecord;

/// Raised whenever a stage's result changes for equal keys, or an artifact's layout does, so that older results are not
/// taken for current ones.
pub const FORMAT: u32 = 7;

/// Hexadecimal digits of a key's hash.
const DIGITS: usize = 16;

/// A SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
    }
    text
}

/// What determines a stage's result. Prints and serialises as `stage/hash`; in the description of another key, that is
/// how an input is named.
#[derive(Clone, Debug, PartialEq)]
pub struct StageKey {
    stage: Cow<'static, str>,
    description: Value,
    hash: String,
}

impl StageKey {
    /// The key of a stage from its name and a description of everything that determines its result: its section of the
    /// configuration, the keys of its inputs, the identities of its plugins, the seed.
    pub fn new(stage: &'static str, description: Value) -> Self {
        let whole = json!({ "format": FORMAT, "stage": stage, "of": description });
        // serde_json keeps the order of insertion, which the code fixes, so the text is canonical.
        let mut hash = sha256(whole.to_string().as_bytes());
        hash.truncate(DIGITS);
        Self {
            stage: stage.into(),
            description,
            hash,
        }
    }

    /// The key that an artifact was made under, whichever `FORMAT` that was.
    pub fn of_record(record: &StageRecord) -> Self {
        Self {
            stage: record.stage.clone().into(),
            description: record.key.clone(),
            hash: record.hash.clone(),
        }
    }

    /// The stage's name.
    pub fn stage(&self) -> &str {
        &self.stage
    }

    /// The key as a short hexadecimal hash.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// What determines the result.
    pub fn description(&self) -> &Value {
        &self.description
    }

    /// The artifacts that the result was made from, as `stage/hash`, in the order in which the description names them.
    pub fn inputs(&self) -> Vec<String> {
        let mut inputs = Vec::new();
        collect_inputs(&self.description, &mut inputs);
        inputs
    }
}

impl fmt::Display for StageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.stage, self.hash)
    }
}

impl Serialize for StageKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn collect_inputs(value: &Value, inputs: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            if named(text).is_some() && !inputs.contains(text) {
                inputs.push(text.clone());
            }
        }
        Value::Array(values) => values
            .iter()
            .for_each(|value| collect_inputs(value, inputs)),
        Value::Object(values) => values
            .values()
            .for_each(|value| collect_inputs(value, inputs)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The stage and the hash, where a text names an artifact.
pub fn named(text: &str) -> Option<(&str, &str)> {
    text.split_once('/')
        .filter(|(stage, hash)| is_stage(stage) && is_hash(hash))
}

/// Whether a text could be a stage's name.
pub(super) fn is_stage(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Whether a text could be a key's hash.
pub(super) fn is_hash(text: &str) -> bool {
    text.len() == DIGITS && is_hash_prefix(text)
}

/// Whether a text could be the beginning of a key's hash.
pub(super) fn is_hash_prefix(text: &str) -> bool {
    text.len() <= DIGITS
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_known() {
        // printf abc | sha256sum
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_key_follows_from_the_stage_and_every_part_of_its_description() {
        let key = StageKey::new("sft", json!({ "lr": 0.1 }));
        assert_eq!(key, StageKey::new("sft", json!({ "lr": 0.1 })));
        assert!(is_hash(key.hash()));
        for other in [
            StageKey::new("sft", json!({ "lr": 0.2 })),
            StageKey::new("sft", json!({ "lr": 0.1, "seed": 1 })),
            StageKey::new("ppo", json!({ "lr": 0.1 })),
        ] {
            assert_ne!(other.hash(), key.hash());
        }
    }

    #[test]
    fn inputs_are_the_keys_that_the_description_names_at_any_depth() {
        let data = StageKey::new("data", json!(1));
        let model = StageKey::new("reward_model", json!(2));
        let key = StageKey::new(
            "ppo",
            json!({ "data": data, "rewards": [{ "model": model }, { "model": data }], "file": "a/b" }),
        );
        assert_eq!(key.inputs(), [data.to_string(), model.to_string()]);
        assert!(data.inputs().is_empty());
    }
}
