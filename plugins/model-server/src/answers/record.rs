//! The lines of a file of answers.

use std::fmt::Write as _;

use finegrain_sdk::serde::{Deserialize, Serialize};
use finegrain_sdk::serde_json::{self, Value};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::key::{Asked, key};
use crate::api;
use crate::usd::Usd;

/// The version of the lines.
pub(super) const FORMAT: u32 = 1;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(
    crate = "finegrain_sdk::serde",
    tag = "line",
    rename_all = "snake_case"
)]
pub(super) enum Line {
    /// A request is about to leave.
    Sent {
        /// The version of the line.
        v: u32,
        /// Names the request.
        id: String,
        /// Of its question.
        key: String,
        /// The most it can cost, where the price is known.
        picodollars: Option<u64>,
        /// When.
        at: Timed,
    },
    /// A request has ended for free.
    Unpaid {
        /// The version of the line.
        v: u32,
        /// Names the request.
        id: String,
    },
    /// An answer.
    Answer(Box<Record>),
    /// A batch is about to be posted.
    Intent {
        /// The version of the line.
        v: u32,
        /// Names the intent.
        id: String,
        /// The server's address.
        base_url: String,
        /// Of its questions.
        keys: Vec<String>,
        /// The most that all of it can cost, where the price is known.
        picodollars: Option<u64>,
        /// When.
        at: Timed,
    },
    /// A batch has an id at the server.
    Batch {
        /// The version of the line.
        v: u32,
        /// Names the intent.
        id: String,
        /// The server's id.
        batch: String,
    },
    /// Nothing more is expected of a batch.
    BatchEnd {
        /// The version of the line.
        v: u32,
        /// Names the intent.
        id: String,
        /// Why.
        why: String,
    },
    /// Answers that count no more.
    Forget {
        /// The version of the line.
        v: u32,
        /// Their ids.
        ids: Vec<String>,
    },
}

/// A moment, as RFC 3339.
pub(super) type Timed = String;

/// Now.
pub(super) fn now() -> Timed {
    Timestamp::now().to_string()
}

/// The line that ends a batch.
pub(super) fn batch_end(intent: &str, why: &str) -> Line {
    Line::BatchEnd {
        v: FORMAT,
        id: intent.to_owned(),
        why: why.to_owned(),
    }
}

/// An answer as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "finegrain_sdk::serde")]
pub struct Record {
    /// The version of the line.
    pub v: u32,
    /// Names this answer: its file, and a number in it.
    pub id: String,
    /// The key of its question.
    pub key: String,
    /// Who asked.
    pub plugin: String,
    /// The row that was asked about.
    pub row: String,
    /// The template's name.
    pub template: String,
    /// The template's hash.
    pub template_hash: String,
    /// The API's name.
    pub api: String,
    /// The API's version.
    pub version: String,
    /// The server's address.
    pub base_url: String,
    /// Which of several independent answers.
    pub sample: u32,
    /// How often it was asked before because the answer was empty.
    pub attempt: u32,
    /// Whether the body holds a schema.
    pub structured: bool,
    /// The model that was asked for.
    pub model_asked: String,
    /// The model that answered, in the server's words.
    pub model_answered: String,
    /// The body as sent.
    pub request: Value,
    /// The body of the response, byte for byte, but for a key that the server repeated.
    pub response: String,
    /// The response's SHA-256.
    pub sha256: String,
    /// The server's id of the request.
    pub request_id: Option<String>,
    /// The server's tier of service, where it says one.
    pub tier: Option<String>,
    /// Tokens that were read, those of the cache included; `None` where the server did not count.
    pub input_tokens: Option<u64>,
    /// Tokens that were written.
    pub output_tokens: Option<u64>,
    /// What it cost by the prices of the day, in picodollars, where known.
    pub picodollars: Option<u64>,
    /// How often the request was sent until there was an answer.
    pub tries: u32,
    /// How many of the tries before may be paid.
    pub possibly_paid: u32,
    /// When the last try left, RFC 3339.
    pub started: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// When it was kept, RFC 3339: of several answers to one question, the first counts.
    pub kept: String,
}

impl Record {
    /// What it cost, where known.
    pub fn usd(&self) -> Option<Usd> {
        self.picodollars.map(Usd::from_pico)
    }

    /// What it says, read as the client reads it.
    ///
    /// # Errors
    /// An API that this version does not know, or a response that is none of it.
    pub fn read(&self) -> Result<api::Read, String> {
        api::read_kept(&self.api, &self.request, &self.response)
    }

    /// What is wrong with it: a key that is not its question's, or a response that is not the one that came.
    pub(super) fn damage(&self) -> Option<&'static str> {
        let asked = Asked {
            api: &self.api,
            version: &self.version,
            base_url: &self.base_url,
            body: &self.request,
            sample: self.sample,
            attempt: self.attempt,
        };
        if key(&asked) != self.key {
            return Some("the key is not that of its request");
        }
        if sha256(self.response.as_bytes()) != self.sha256 {
            return Some("the response is not the one whose hash it has");
        }
        None
    }
}

/// The hash of bytes, in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing into a text cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// A line as text, with its end.
pub(super) fn to_line(line: &Line) -> serde_json::Result<String> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    Ok(text)
}
