//! Anthropic's Message Batches on the test server: batches that end after some looks, with results in any order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use finegrain_sdk::serde_json::{Value, json};

use super::act::Act;
use super::server::Seen;

/// What becomes of a request in a batch.
#[derive(Clone, Debug)]
pub enum Fate {
    /// Answered and paid: the body of the answer.
    Succeeded(Value),
    /// Refused with a kind and a message; free.
    Errored(&'static str, &'static str),
    /// Not worked on when the batch was canceled; free.
    Canceled,
    /// Not worked on within the day; free.
    Expired,
}

type Decide = dyn Fn(&Value, usize) -> Fate + Send + Sync;

/// The batches of a test server. A behaviour hands requests to [`Batches::act`]; clones share the batches.
#[derive(Clone)]
pub struct Batches {
    shared: Arc<Shared>,
}

struct Shared {
    decide: Box<Decide>,
    looks: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    batches: Vec<Batch>,
    /// How often a request with these parameters was in a batch.
    met: BTreeMap<String, usize>,
    /// How often a text was answered in a batch, which is paid.
    paid: BTreeMap<String, usize>,
}

struct Batch {
    id: String,
    created_at: String,
    looked: usize,
    canceled: bool,
    rows: Vec<(String, Fate)>,
}

impl Batches {
    /// Batches that end at the look after `looks` others, where `decide` says what becomes of the parameters of a request,
    /// which were in so many batches before.
    pub fn new(
        looks: usize,
        decide: impl Fn(&Value, usize) -> Fate + Send + Sync + 'static,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                decide: Box::new(decide),
                looks,
                state: Mutex::default(),
            }),
        }
    }

    /// What becomes of a request; `None` where it is none about batches.
    pub fn act(&self, seen: &Seen) -> Option<Act> {
        let path = seen.path.strip_prefix("/v1/messages/batches")?;
        let mut state = self.lock();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        Some(match (&*seen.method, &parts[..]) {
            ("POST", []) => self.create(&mut state, &seen.body),
            ("GET", []) => list(&mut state, self.shared.looks, query),
            (method, [id, rest @ ..]) => {
                let Some(batch) = state.batches.iter_mut().find(|batch| batch.id == *id) else {
                    let body = super::anthropic_error("not_found_error", "no such batch");
                    return Some(Act::reply(404, body));
                };
                match (method, rest) {
                    ("GET", []) => {
                        batch.looked += 1;
                        Act::reply(200, batch.describe(self.shared.looks).to_string())
                    }
                    ("GET", ["results"]) => Act::reply(200, batch.results()),
                    ("POST", ["cancel"]) => {
                        batch.canceled = true;
                        Act::reply(200, batch.describe(self.shared.looks).to_string())
                    }
                    _ => Act::reply(404, "{}"),
                }
            }
            _ => Act::reply(404, "{}"),
        })
    }

    /// The ids of all batches, the oldest first.
    pub fn ids(&self) -> Vec<String> {
        let state = self.lock();
        state.batches.iter().map(|batch| batch.id.clone()).collect()
    }

    /// How many requests each batch has, the oldest first.
    pub fn sizes(&self) -> Vec<usize> {
        let state = self.lock();
        state.batches.iter().map(|batch| batch.rows.len()).collect()
    }

    /// How often each text was answered, by its last message.
    pub fn paid(&self) -> BTreeMap<String, usize> {
        self.lock().paid.clone()
    }

    /// Ends all batches at the next look, what is not answered canceled.
    pub fn cancel_all(&self) {
        for batch in &mut self.lock().batches {
            batch.canceled = true;
        }
    }

    fn create(&self, state: &mut State, body: &Value) -> Act {
        let Some(requests) = body["requests"].as_array() else {
            let body = super::anthropic_error("invalid_request_error", "requests: field required");
            return Act::reply(400, body);
        };
        let mut rows = Vec::new();
        for request in requests {
            let params = &request["params"];
            let met = state.met.entry(params.to_string()).or_default();
            let fate = (self.shared.decide)(params, *met);
            *met += 1;
            if matches!(fate, Fate::Succeeded(_)) {
                let messages = params["messages"].as_array();
                let last = messages.and_then(|messages| messages.last());
                let text = last.and_then(|message| message["content"].as_str());
                *state
                    .paid
                    .entry(text.unwrap_or_default().to_owned())
                    .or_default() += 1;
            }
            let id = request["custom_id"].as_str().unwrap_or_default().to_owned();
            rows.push((id, fate));
        }
        let batch = Batch {
            id: format!("msgbatch_{}", state.batches.len()),
            created_at: jiff::Timestamp::now().to_string(),
            looked: 0,
            canceled: false,
            rows,
        };
        let described = batch.describe(usize::MAX);
        state.batches.push(batch);
        Act::reply(200, described.to_string())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let state = &self.shared.state;
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    fn describe(&self, looks: usize) -> Value {
        let ended = self.looked > looks || (self.canceled && self.looked > 0);
        let count = |of: &dyn Fn(&Fate) -> bool| {
            if !ended {
                return 0;
            }
            self.rows.iter().filter(|(_, fate)| of(fate)).count()
        };
        let status = match (ended, self.canceled) {
            (true, _) => "ended",
            (false, true) => "canceling",
            (false, false) => "in_progress",
        };
        json!({
            "id": self.id,
            "type": "message_batch",
            "processing_status": status,
            "request_counts": {
                "processing": if ended { 0 } else { self.rows.len() },
                "succeeded": count(&|fate| matches!(fate, Fate::Succeeded(_))),
                "errored": count(&|fate| matches!(fate, Fate::Errored(..))),
                "canceled": count(&|fate| matches!(fate, Fate::Canceled)),
                "expired": count(&|fate| matches!(fate, Fate::Expired)),
            },
            "created_at": self.created_at,
            "ended_at": ended.then_some(&self.created_at),
            "cancel_initiated_at": self.canceled.then_some(&self.created_at),
            "results_url": "http://elsewhere.invalid/results",
        })
    }

    /// The results, the last request first.
    fn results(&self) -> String {
        let lines = self.rows.iter().rev().map(|(id, fate)| {
            let result = match fate {
                Fate::Succeeded(message) => json!({"type": "succeeded", "message": message}),
                Fate::Errored(kind, message) => json!({
                    "type": "errored",
                    "error": {"type": "error", "error": {"type": kind, "message": message}}
                }),
                Fate::Canceled => json!({"type": "canceled"}),
                Fate::Expired => json!({"type": "expired"}),
            };
            json!({"custom_id": id, "result": result}).to_string() + "\n"
        });
        lines.collect()
    }
}

/// A page of the batches, the newest first; each is looked at by it.
fn list(state: &mut State, looks: usize, query: &str) -> Act {
    let field = |name: &str| {
        let fields = query.split('&').filter_map(|field| field.split_once('='));
        fields
            .into_iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    };
    let limit = field("limit")
        .and_then(|limit| limit.parse().ok())
        .unwrap_or(20);
    for batch in &mut state.batches {
        batch.looked += 1;
    }
    let newest: Vec<&Batch> = state.batches.iter().rev().collect();
    let start = field("after_id").map_or(0, |after| {
        let at = newest.iter().position(|batch| batch.id == after);
        at.map_or(newest.len(), |at| at + 1)
    });
    let page: Vec<Value> = newest[start..]
        .iter()
        .take(limit)
        .map(|batch| batch.describe(looks))
        .collect();
    let has_more = start + page.len() < newest.len();
    let last_id = page.last().map(|batch| batch["id"].clone());
    Act::reply(
        200,
        json!({"data": page, "has_more": has_more, "last_id": last_id}).to_string(),
    )
}
