//! The host's error: what was found, where, what is accepted, one hint; and the exit code that follows from it.

use std::fmt;
use std::io;
use std::path::Path;

use crate::telemetry::NotFinite;

/// `Result` with the host's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose fault an error is; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A gate that the run set itself failed: exit code 1.
    Gate,
    /// Wrong input from the user: exit code 2.
    Input,
    /// A defect of finegrain or of the machine: exit code 3.
    Internal,
    /// A plugin was refused or failed: exit code 4.
    Plugin,
    /// The user interrupted the run: exit code 130, as shells report it.
    Interrupted,
}

/// An error with its kind, a chain of contexts (outermost first) and at most one hint.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    not_finite: Option<Box<NotFinite>>,
}

impl Error {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            not_finite: None,
        }
    }

    /// Wrong input from the user.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Input, message)
    }

    /// A plugin was refused or failed.
    pub fn plugin(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Plugin, message)
    }

    /// A defect of finegrain or of the machine.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// A gate of the run failed.
    pub fn gate(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Gate, message)
    }

    /// The user interrupted the run.
    pub fn interrupted() -> Self {
        Self::new(ErrorKind::Interrupted, "interrupted")
    }

    /// A file that could not be used: `action` is a verb such as `read`.
    pub fn io(action: &str, path: &Path, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::InvalidData => ErrorKind::Input,
            _ => ErrorKind::Internal,
        };
        let result = Self::new(kind, format!("cannot {action} {}: {error}", path.display()));
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => result.hint(
                "make room and call it again; finished stages are kept, and `finegrain store gc --dry-run` shows \
                 which of them no run uses",
            ),
            _ => result,
        }
    }

    /// The same error with a hint for the user, printed on a line of its own.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error with what was being done in front: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// The same error with more behind its message: `message; more`.
    #[must_use]
    pub fn followed_by(mut self, more: impl fmt::Display) -> Self {
        self.message = format!("{}; {more}", self.message);
        self
    }

    /// The same error with the rows at which a number was not finite.
    #[must_use]
    pub fn with_not_finite(mut self, found: NotFinite) -> Self {
        self.not_finite = Some(Box::new(found));
        self
    }

    /// The rows at which a number was not finite, where that is what the error is about.
    pub fn not_finite(&self) -> Option<&NotFinite> {
        self.not_finite.as_deref()
    }

    /// The same, to add to them.
    pub fn not_finite_mut(&mut self) -> Option<&mut NotFinite> {
        self.not_finite.as_deref_mut()
    }

    /// The same error as the failure of a gate.
    #[must_use]
    pub fn into_gate(mut self) -> Self {
        self.kind = ErrorKind::Gate;
        self
    }

    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The hint, if there is one.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            ErrorKind::Gate => 1,
            ErrorKind::Input => 2,
            ErrorKind::Internal => 3,
            ErrorKind::Plugin => 4,
            ErrorKind::Interrupted => 130,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        let error = without_backtrace(&error);
        Self::internal(format!("tensor operation failed: {error}"))
    }
}

/// candle's own words: with `RUST_BACKTRACE` set, it prints the places of its source behind them.
pub(crate) fn without_backtrace(error: &candle_core::Error) -> &candle_core::Error {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => without_backtrace(inner),
        plain => plain,
    }
}

/// Adds context to a result's error.
pub trait Context<T> {
    /// Puts `context: ` in front of the message.
    fn context(self, context: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn context(self, context: impl fmt::Display) -> Result<T> {
        self.map_err(|error| error.into().context(context))
    }
}

impl Error {
    /// An error of the layer of answers, which speaks the SDK's language: a damaged folder, or a key that is none.
    pub(crate) fn from_answers(error: finegrain_sdk::Error) -> Self {
        Self::input(error.message)
    }
}

/// What the system said of a library that does not open: libloading's own text is short, and has it as its source.
pub(crate) fn said_by_loader(error: &libloading::Error) -> String {
    let said = std::error::Error::source(error);
    said.map_or_else(|| error.to_string(), ToString::to_string)
}
