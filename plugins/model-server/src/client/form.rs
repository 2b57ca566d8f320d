//! A question as it may be sent, and what is kept of it.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use finegrain_sdk::serde_json::Value;
use finegrain_sdk::{Error, Result};

use super::Call;
use crate::answers::{Asked, Record, key, sha256};
use crate::api::{Api, Body, Read};
use crate::outcome::{Answer, Usage};
use crate::question::Question;
use crate::usd::Usd;

/// The tier of service of answers in batches.
pub(crate) const BATCH_TIER: &str = "batch";

/// A question in one of the forms that its body can have, with its key.
pub(crate) struct Form {
    pub(crate) key: String,
    pub(crate) body: Body,
}

/// The questions whose earlier cost the budget knows of.
#[derive(Debug, Default)]
pub(crate) struct Accounted(Mutex<HashSet<String>>);

impl Accounted {
    /// Counts, once for each question, what earlier requests of it have cost and may have cost.
    fn count(&self, call: &Call<'_>, key: &str, record: Option<&Record>) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = counted.insert(key.to_owned());
        drop(counted);
        if !is_new {
            return;
        }
        let lost = call.layer.as_ref().map(|layer| layer.lost(key));
        let paid = record.and_then(|record| cost(call, record));
        let sum = lost.unwrap_or_default().plus(paid.unwrap_or_default());
        call.budget.count(sum);
    }
}

impl Form {
    /// A question in form `form`.
    ///
    /// # Errors
    /// A question that no API takes.
    pub(crate) fn new(call: &Call<'_>, question: &Question, form: usize) -> Result<Self> {
        let server = call.server;
        let body = server.api.body(question, &server.options, form)?;
        let asked = Asked {
            api: server.api.name(),
            version: server.api.version(),
            base_url: server.address.as_str(),
            body: &body.json,
            sample: question.sample,
            attempt: question.attempt,
        };
        Ok(Self {
            key: key(&asked),
            body,
        })
    }

    /// What a server accepts or refuses in the body, whatever the texts are: everything else.
    pub(crate) fn shape(&self) -> String {
        shape(&self.body.json)
    }

    /// The record of an answer that costs nothing and has no id yet.
    pub(crate) fn record(
        &self,
        call: &Call<'_>,
        question: &Question,
        read: Read,
        response: String,
    ) -> Record {
        let server = call.server;
        Record {
            v: 1,
            id: String::new(),
            key: self.key.clone(),
            plugin: server.plugin.clone(),
            row: question.id.clone(),
            template: question.template.name.clone(),
            template_hash: question.template.hash.clone(),
            api: server.api.name().to_owned(),
            version: server.api.version().to_owned(),
            base_url: server.address.as_str().to_owned(),
            sample: question.sample,
            attempt: question.attempt,
            structured: self.body.structured,
            model_asked: server.options.model.clone(),
            model_answered: read.model,
            request: self.body.json.clone(),
            sha256: sha256(response.as_bytes()),
            response,
            request_id: None,
            tier: None,
            input_tokens: read.usage.map(|usage| usage.input),
            output_tokens: read.usage.map(|usage| usage.output),
            picodollars: None,
            tries: 1,
            possibly_paid: 0,
            started: String::new(),
            seconds: 0.0,
            kept: String::new(),
        }
    }

    fn find(&self, call: &Call<'_>, accounted: &Accounted) -> Result<Option<Answer>> {
        let record = match &call.layer {
            Some(layer) => layer.find(&self.key)?,
            None => None,
        };
        accounted.count(call, &self.key, record.as_ref());
        let Some(record) = record else {
            return Ok(None);
        };
        let api = &call.server.api;
        let value = api
            .envelope(&record.response)
            .map_err(|what| Error::plugin(format!("kept answer {}: {what}", record.key)))?;
        call.prove(shape(&record.request));
        let kept = !call.takes_fresh(&record.key);
        Ok(Some(answer(api, &record, &value, kept)))
    }
}

/// A body without its texts.
fn shape(body: &Value) -> String {
    let mut body = body.clone();
    if let Some(fields) = body.as_object_mut() {
        fields.remove("messages");
        fields.remove("system");
    }
    body.to_string()
}

/// What a kept answer cost; by the price of today where none was known then.
fn cost(call: &Call<'_>, record: &Record) -> Option<Usd> {
    record.usd().or_else(|| {
        let usage = Usage {
            input: record.input_tokens?,
            output: record.output_tokens?,
            ..Usage::default()
        };
        let batch = record.tier.as_deref() == Some(BATCH_TIER);
        Some(call.server.price_today()?.of(usage, batch))
    })
}

/// The kept answer to a question in any of its forms; the budget learns what its requests have cost before.
///
/// # Errors
/// A question that no API takes, or a folder that cannot be read.
pub(crate) fn find_kept(
    call: &Call<'_>,
    accounted: &Accounted,
    question: &Question,
) -> Result<Option<Answer>> {
    for form in 0..call.server.api.forms() {
        if let Some(answer) = Form::new(call, question, form)?.find(call, accounted)? {
            return Ok(Some(answer));
        }
    }
    Ok(None)
}

/// A record as an answer; `value` is its response.
pub(crate) fn answer(api: &Api, record: &Record, value: &Value, kept: bool) -> Answer {
    let read = api.read(&record.request, value);
    Answer {
        key: record.key.clone(),
        reply: read.reply,
        usage: read.usage,
        usd: record.usd(),
        model: read.model,
        request_id: record.request_id.clone(),
        kept,
        structured: record.structured,
    }
}
