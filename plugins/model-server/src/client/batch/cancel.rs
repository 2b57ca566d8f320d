//! Ending a batch at the server.

use finegrain_sdk::{Error, Result};

use super::remote::Remote;
use crate::error_body::ErrorBody;
use crate::server::Server;
use crate::transport::{Received, Transport};

/// Ends a batch: what is not answered yet is free, what is answered is paid and can be taken. Returns its state in the
/// server's words.
///
/// # Errors
/// An API without batches, no key, or a server that does not know the batch or does not answer.
pub fn cancel_batch(server: &Server, id: &str) -> Result<String> {
    let url = server.api.batches_url(&server.address);
    let url = url.ok_or_else(|| Error::options("this API has no batches"))?;
    let url = format!("{url}/{id}/cancel");
    match Transport::new(server)?.post_long(&url, "") {
        Received::Reply {
            status: 200, body, ..
        } => Remote::parse(&body)
            .map(|remote| remote.processing_status)
            .map_err(|error| Error::plugin(format!("{url}: the reply is no batch: {error}"))),
        Received::Reply { status, body, .. } => Err(Error::plugin(format!(
            "{url}: HTTP {status}: {}",
            ErrorBody::parse(&body).message
        ))),
        Received::Lost { seen, .. } => Err(Error::plugin(format!("{url}: {seen}"))),
    }
}
