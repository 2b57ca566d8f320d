//! The one error type of a plugin: a code, a message, and the row of the batch where there is one.

use std::fmt;

/// What went wrong, as a number that crosses the boundary; an unknown number is legal and reads as a plugin's failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// The plugin failed for a reason of its own.
    pub const PLUGIN: Self = Self(0);
    /// The options do not parse, or are outside their range.
    pub const INVALID_OPTIONS: Self = Self(1);
    /// The host passed a batch that breaks the contract.
    pub const INVALID_INPUT: Self = Self(2);
    /// The plugin saw the cancel flag and stopped.
    pub const CANCELLED: Self = Self(3);
    /// The plugin panicked; the instance must not be called again.
    pub const PANIC: Self = Self(4);
    /// The plugin does not offer this call.
    pub const UNSUPPORTED: Self = Self(5);
    /// The plugin broke the contract: an output of the wrong length, a row left unwritten, a value not finite.
    pub const INVALID_OUTPUT: Self = Self(6);
}

/// An error of a plugin call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The kind of failure.
    pub code: ErrorCode,
    /// One sentence fragment in lower case, without a full stop.
    pub message: String,
    /// The row of the batch that failed, where there is one.
    pub row: Option<usize>,
}

/// `Result` with the SDK's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with a code and a message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            row: None,
        }
    }

    /// A failure of the plugin's own.
    pub fn plugin(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::PLUGIN, message)
    }

    /// Options that cannot be used.
    pub fn options(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::INVALID_OPTIONS, message)
    }

    /// A batch that breaks the contract.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::INVALID_INPUT, message)
    }

    /// A call that this plugin does not offer.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::UNSUPPORTED, message)
    }

    /// The same error, naming the row it belongs to.
    #[must_use]
    pub fn at_row(mut self, row: usize) -> Self {
        self.row = Some(row);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(row) = self.row {
            write!(f, "row {row}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
