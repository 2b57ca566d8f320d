//! What makes two questions the same.

use finegrain_sdk::serde_json::{Map, Value};

use super::sha256;

/// All that a server is told, and which of several answers is meant.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The API's name.
    pub api: &'a str,
    /// The API's version, empty where it has none.
    pub version: &'a str,
    /// The server's address in its one spelling.
    pub base_url: &'a str,
    /// The body as sent.
    pub body: &'a Value,
    /// Which of several independent answers.
    pub sample: u32,
    /// How often it was asked before because the answer was empty.
    pub attempt: u32,
}

/// The key: SHA-256 over the JSON of [`Asked`] with its keys sorted and without white space, in hexadecimal digits. The
/// body keeps its own order, in which it was sent: servers write an answer's fields in the order of the schema.
pub fn key(asked: &Asked<'_>) -> String {
    let fields: Map<String, Value> = [
        ("api", Value::from(asked.api)),
        ("attempt", Value::from(asked.attempt)),
        ("base_url", Value::from(asked.base_url)),
        ("body", asked.body.clone()),
        ("sample", Value::from(asked.sample)),
        ("version", Value::from(asked.version)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    sha256(Value::Object(fields).to_string().as_bytes())
}
