//! What is asked, before it takes the shape of any API.

use finegrain_sdk::serde_json::Value;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// What the model is told.
    User(String),
    /// What the model has said.
    Assistant(String),
}

/// A JSON schema that the answer is held to, where the server can.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// A name in lower case: letters, digits, `_`.
    pub name: String,
    /// The schema: an object whose properties are all required and with `additionalProperties: false`, as servers demand.
    pub schema: Value,
}

/// The template that a question was rendered from. It stands beside the answer and is no part of its key: the texts are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// Its name or path.
    pub name: String,
    /// The hash of its text, in hexadecimal digits.
    pub hash: String,
}

/// One question about one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The row's id, for messages and records.
    pub id: String,
    /// What the model is and does; not empty, for a server's own default text may take its place.
    pub system: String,
    /// The conversation: it begins and ends with the user, and they take turns.
    pub turns: Vec<Turn>,
    /// What the answer is held to.
    pub schema: Option<Schema>,
    /// The most tokens of the answer; `None` for the option's.
    pub max_tokens: Option<u32>,
    /// Which of several independent answers to the same texts, from 0: a part of the key.
    pub sample: u32,
    /// How often the same question was asked before because its answer was empty: a part of the key, set by the client.
    pub attempt: u32,
    /// Where it was rendered from.
    pub template: Template,
}

impl Question {
    /// A question of one turn.
    pub fn new(id: impl Into<String>, system: impl Into<String>, user: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            system: system.into(),
            turns: vec![Turn::User(user.into())],
            schema: None,
            max_tokens: None,
            sample: 0,
            attempt: 0,
            template: Template::default(),
        }
    }

    /// The same conversation, with the model's answer and what the user says to it.
    #[must_use]
    pub fn then(mut self, answer: impl Into<String>, user: impl Into<String>) -> Self {
        self.turns.push(Turn::Assistant(answer.into()));
        self.turns.push(Turn::User(user.into()));
        self.attempt = 0;
        self
    }
}
