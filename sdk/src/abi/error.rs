//! An [`Error`] on its way across the boundary.

use abi_stable::StableAbi;
use abi_stable::std_types::{RResult, RString};

use crate::error::{Error, ErrorCode, Result};

/// An [`ErrorCode`]; any number is legal.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct ErrorCodeAbi(pub u32);

/// An [`Error`].
#[repr(C)]
#[derive(Debug, StableAbi)]
pub struct ErrorAbi {
    code: ErrorCodeAbi,
    /// The row of the batch, or −1.
    row: i64,
    message: RString,
}

impl From<Error> for ErrorAbi {
    fn from(error: Error) -> Self {
        Self {
            code: ErrorCodeAbi(error.code.0),
            row: error.row.map_or(-1, |row| row as i64),
            message: error.message.into(),
        }
    }
}

impl From<ErrorAbi> for Error {
    fn from(error: ErrorAbi) -> Self {
        Self {
            code: ErrorCode(error.code.0),
            message: error.message.into(),
            row: usize::try_from(error.row).ok(),
        }
    }
}

/// What a call across the boundary returns.
pub type ResultAbi<T> = RResult<T, ErrorAbi>;

/// A result that came across, in the author's types.
pub(crate) fn received<T>(result: ResultAbi<T>) -> Result<T> {
    result.into_result().map_err(Error::from)
}
