//! An [`Origin`] on its way across the boundary: as JSON, for it is likely to grow.

use abi_stable::std_types::{RStr, RString};

use crate::error::{Error, ErrorCode, Result};
use crate::kinds::Origin;
use crate::options;

/// Plugin side: an origin as it crosses.
pub(super) fn sent(origin: &Origin) -> Result<RString> {
    options::to_json(origin)
}

/// Host side: the origin that came across; `None` for an empty text.
pub(super) fn received(json: RStr<'_>) -> Result<Option<Origin>> {
    if json.is_empty() {
        return Ok(None);
    }
    let origin = serde_json::from_str(json.as_str()).map_err(|error| {
        let message = format!("pushed an origin that cannot be read: {error}");
        Error::new(ErrorCode::INVALID_OUTPUT, message)
    })?;
    Ok(Some(origin))
}
