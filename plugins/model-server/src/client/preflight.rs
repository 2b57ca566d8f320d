//! A free look before the first question: a wrong key, or a model that is not there, ends the call with nothing sent.
//!
//! Only an answer that says so ends it. Servers that have no such look-up, or are busy, are asked the questions all the same.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use finegrain_sdk::context::LogLevel;
use finegrain_sdk::serde_json::{self, Value};
use finegrain_sdk::{Error, Result};

use super::Call;
use crate::api::Api;
use crate::error_body::ErrorBody;
use crate::transport::{Received, Transport};
use crate::verdict::{Verdict, verdict};

/// Models that were looked up in this process: address, then name.
static LOOKED_UP: Mutex<BTreeSet<(String, String)>> = Mutex::new(BTreeSet::new());
/// Names of a server's models that a warning has room for.
const NAMED: usize = 8;

/// Looks the model up, once in a process for every address and name.
///
/// # Errors
/// The server refuses the key, or says that it has no such model.
pub(crate) fn look(call: &Call<'_>, transport: &Transport) -> Result<()> {
    let server = call.server;
    let what = (
        server.address.as_str().to_owned(),
        server.model().to_owned(),
    );
    let known = |what| {
        LOOKED_UP
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(what)
    };
    if known(&what) {
        return Ok(());
    }
    let url = server.api.models_url(&server.address, server.model());
    if let Received::Reply {
        status,
        headers,
        body,
        at,
    } = transport.get(&url)
    {
        match status {
            401 | 403 if lacks_scope(call, &body) => call.context.log(
                LogLevel::Info,
                &format!("{url}: this key may not look models up; the first question tells whether it may ask"),
            ),
            401 | 403 => {
                if let Verdict::Stop(why) = verdict(&server.api, &url, status, &headers, &body, at)
                {
                    return Err(Error::plugin(why));
                }
            }
            404 if lacks_model(call, &body) => {
                return Err(Error::plugin(format!(
                    "{url} knows no model {:?}: {}; nothing was sent",
                    server.model(),
                    ErrorBody::parse(&body).message
                )));
            }
            200 => listed(call, &url, &body)?,
            _ => {}
        }
    }
    let mut all = LOOKED_UP.lock().unwrap_or_else(PoisonError::into_inner);
    all.insert(what);
    Ok(())
}

/// Whether a key of OpenAI's is refused for this look alone: restricted keys may ask questions and not list models.
fn lacks_scope(call: &Call<'_>, body: &str) -> bool {
    matches!(call.server.api, Api::OpenAi(_))
        && ErrorBody::parse(body).says(&["missing scopes", "insufficient permissions"])
}

/// Whether a 404 speaks of the model, and not of the path: in Anthropic's envelope, which other servers of its API do not
/// use for paths that they lack.
fn lacks_model(call: &Call<'_>, body: &str) -> bool {
    if !matches!(call.server.api, Api::Anthropic(_)) {
        return false;
    }
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    let error = ErrorBody::parse(body);
    value["type"] == "error"
        && error.kind == "not_found_error"
        && (error.says(&["model"]) || error.says(&[&call.server.model().to_lowercase()]))
}

/// Looks for the model in a list of a server's models. OpenAI's own is whole; elsewhere, servers load models that they do not
/// list, or answer with the one that they have whatever the name.
fn listed(call: &Call<'_>, url: &str, body: &str) -> Result<()> {
    let server = call.server;
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    let Some(models) = value["data"].as_array() else {
        return Ok(());
    };
    let names: Vec<&str> = models
        .iter()
        .filter_map(|model| model["id"].as_str())
        .collect();
    if names.is_empty() || names.contains(&server.model()) {
        return Ok(());
    }
    let shown: Vec<&str> = names.iter().copied().take(NAMED).collect();
    let more = names.len() - shown.len();
    let mut what = format!(
        "{url} does not list the model {:?}, but {}",
        server.model(),
        shown.join(", ")
    );
    if more > 0 {
        // Writing into a text cannot fail.
        let _ = write!(what, " and {more} more");
    }
    if server.address.as_str() == server.api.own_address() {
        return Err(Error::plugin(format!("{what}; nothing was sent")));
    }
    call.context.log(LogLevel::Warn, &what);
    Ok(())
}
