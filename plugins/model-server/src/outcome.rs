//! What came of one row.

use std::fmt;

use crate::question::Question;
use crate::usd::Usd;

/// What an answer took, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens that were read, those from a cache and into a cache included.
    pub input: u64,
    /// Tokens read from the server's cache, which cost less.
    pub cache_read: u64,
    /// Tokens written into the server's cache, which cost more.
    pub cache_write: u64,
    /// Tokens that were written, thinking included.
    pub output: u64,
}

impl Usage {
    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            output: self.output.saturating_add(other.output),
        }
    }
}

/// What a server's answer says once it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A text, whole.
    Text(String),
    /// The model declined.
    Refused {
        /// The server's category, or `unnamed`.
        category: String,
        /// Why, in the server's words; may be empty.
        explanation: String,
    },
    /// An answer that cannot be used.
    Unusable(Failure),
}

/// One answer of a server, or of the kept ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The key of its question, in hexadecimal digits.
    pub key: String,
    /// What it says.
    pub reply: Reply,
    /// Tokens, where the server counted them.
    pub usage: Option<Usage>,
    /// What it cost when it was asked, where the price is known.
    pub usd: Option<Usd>,
    /// The model that answered, as the server names it.
    pub model: String,
    /// The server's id of the request.
    pub request_id: Option<String>,
    /// Whether it was kept before this call: nothing was sent.
    pub kept: bool,
    /// Whether the question's schema was sent with it.
    pub structured: bool,
}

impl Answer {
    /// The text, where it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.reply {
            Reply::Text(text) => Some(text),
            Reply::Refused { .. } | Reply::Unusable(_) => None,
        }
    }
}

/// Why a row has no answer that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    /// The server refuses the request as it is.
    Rejected,
    /// The question does not fit the model's context.
    TooLong,
    /// The request is larger than the server takes.
    TooLarge,
    /// The row alone takes more than the limit a minute.
    OverLimit,
    /// The answer hit the limit of its length, with twice the limit too.
    CutOff,
    /// The answer is empty, twice.
    Empty,
    /// The answer ran into the end of the context.
    ContextFull,
    /// The answer ended for a reason that is none of the known ones.
    UnknownStop,
    /// The server counted far fewer tokens than were sent: it cut the question.
    QuestionCut,
    /// The answer begins with thinking that does not end, or holds some where none may be.
    ThinkingInText,
    /// The answer has no text where the API has one.
    NoText,
    /// Bodies that were cut, no JSON or without an answer, as often as is asked.
    Unreadable,
    /// No connection, an overloaded server, or an error of the server's, as often as is asked.
    Unavailable,
    /// The server said to wait as often as is asked.
    RateLimited,
    /// A bug of the plugin: it asked the same question about a row twice, which has one answer.
    AskedTwice,
    /// A bug: something about the row panicked.
    Panicked,
}

impl FailureKind {
    /// A word for counts and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::TooLong => "too long",
            Self::TooLarge => "too large",
            Self::OverLimit => "over the limit a minute",
            Self::CutOff => "cut off",
            Self::Empty => "empty",
            Self::ContextFull => "context full",
            Self::UnknownStop => "unknown stop reason",
            Self::QuestionCut => "question cut",
            Self::ThinkingInText => "thinking in the text",
            Self::NoText => "no text",
            Self::Unreadable => "unreadable",
            Self::Unavailable => "unavailable",
            Self::RateLimited => "rate limited",
            Self::AskedTwice => "asked twice",
            Self::Panicked => "panicked",
        }
    }
}

/// Why a row has no answer that can be used, with the details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind, for counts.
    pub kind: FailureKind,
    /// What was seen: the server's words where it has any.
    pub detail: String,
}

impl Failure {
    /// A failure of a kind, and what was seen.
    pub fn new(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

/// How a row ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With a text: that of the last try.
    Text(String),
    /// The model declined.
    Refused {
        /// The server's category, or `unnamed`.
        category: String,
        /// Why, in the server's words; may be empty.
        explanation: String,
    },
    /// Without an answer that can be used.
    Failed(Failure),
}

/// What came of one row: how it ended, and every answer on the way there.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// How it ended.
    pub end: End,
    /// All answers in order. Where the end is a text or a refusal, it is that of the last one.
    pub tries: Vec<Answer>,
}

/// What follows an answer with a text.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, and taken apart at once"
)]
pub enum Step {
    /// Nothing: the row is done.
    Done,
    /// Another question about the same row; its key must differ from those asked before, which new turns, another sample or
    /// another limit see to.
    Ask(Question),
}
