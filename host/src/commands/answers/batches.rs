//! `finegrain answers batches`, `cancel-batch` and `give-up-batch`.

use finegrain_model_server::answers::{Batch, Folder};
use finegrain_model_server::options::{AnthropicOptions, ServerOptions};
use finegrain_model_server::{Server, cancel_batch};
use serde_json::{Value, json};

use crate::commands::{TABLE_WIDTH, emit};
use crate::error::{Error, Result};
use crate::report::tables::ruled;

/// What is expected of a batch, in words.
fn state(batch: &Batch) -> String {
    match (&batch.ended, &batch.id) {
        (Some(why), _) => why.clone(),
        (None, Some(_)) => "open".to_owned(),
        (None, None) => "open, id not known yet".to_owned(),
    }
}

/// All batches, the oldest first.
pub(super) fn table(folder: &Folder) -> String {
    let batches = folder.batches();
    let rows = batches.iter().map(|(batch, answered)| {
        [
            batch.id.clone().unwrap_or_else(|| batch.intent.clone()),
            state(batch),
            batch.keys.len().to_string(),
            answered.to_string(),
            format!("{:.0}", batch.at),
        ]
    });
    let header = ["Batch", "State", "Questions", "Answered", "Since"];
    let table = ruled(&header, rows, TABLE_WIDTH, 1, |at| at == 2 || at == 3);
    let open = batches.iter().filter(|(batch, _)| batch.ended.is_none());
    format!(
        "{table}\n\n{} batches, {} open: a run that needs their questions takes the answers.\n",
        batches.len(),
        open.count()
    )
}

/// The same for programs.
pub(super) fn in_json((batch, answered): &(&Batch, usize)) -> Value {
    json!({
        "batch": batch.id,
        "intent": batch.intent,
        "base_url": batch.base_url,
        "state": state(batch),
        "open": batch.ended.is_none(),
        "questions": batch.keys.len(),
        "answered": answered,
        "since": batch.at.to_string(),
    })
}

/// Ends a batch at the server that it was posted to.
pub(super) fn cancel(folder: &Folder, id: &str, api_key_env: &str) -> Result<()> {
    let batches = folder.batches();
    let known = batches
        .iter()
        .find(|(batch, _)| batch.id.as_deref() == Some(id));
    let Some((batch, _)) = known else {
        return Err(Error::input(format!("no batch {id:?} is known here"))
            .hint("`finegrain answers batches` lists them"));
    };
    let options = ServerOptions {
        // A batch has its model in it; nothing is asked of this one.
        model: "any".to_owned(),
        base_url: batch.base_url.clone(),
        api_key_env: api_key_env.to_owned(),
        ..ServerOptions::default()
    };
    let server = Server::anthropic("answers", &options, &AnthropicOptions::default())
        .map_err(Error::from_answers)?;
    let state = cancel_batch(&server, id).map_err(Error::from_answers)?;
    emit(&format!(
        "{id} is {state}; what it has answered is taken by the next run that needs it.\n"
    ))
}

/// Expects nothing more of a batch.
pub(super) fn give_up(folder: &mut Folder, id: &str) -> Result<()> {
    let left = folder.give_up(id).map_err(Error::from_answers)?;
    emit(&format!(
        "{id} is given up: {left} of its questions have no answer, and the next run that needs them asks again.\n"
    ))
}
