//! `finegrain answers`: what model servers have answered, what it cost, and which questions are to be asked again.

mod batches;

use std::fmt::Write as _;
use std::path::Path;

use finegrain_model_server::answers::{Cost, Entry, Folder, Record, Verified};
use finegrain_model_server::{Reply, Usd};
use serde_json::{Value, json};

use crate::cli::AnswersCommand;
use crate::commands::{TABLE_WIDTH, emit, emit_json};
use crate::error::{Error, Result};
use crate::inspect::line;
use crate::pipeline::store::Store;
use crate::report::tables::ruled;

/// The widths of a list's columns, in characters: a key's first digits tell thousands apart.
const KEY: usize = 12;
const ROW: usize = 16;
const MODEL: usize = 18;
const SAYS: usize = 22;

pub(super) fn answers(command: &AnswersCommand) -> Result<()> {
    match command {
        AnswersCommand::List {
            plugin,
            refused,
            unusable,
            args,
        } => {
            let mut entries = open(&args.store)?.list().map_err(Error::from_answers)?;
            entries.retain(|entry| {
                let of_plugin = plugin.as_ref().is_none_or(|it| entry.record.plugin == *it);
                of_plugin && wanted(entry, *refused, *unusable)
            });
            if args.json {
                return emit_json(&entries.iter().map(in_json).collect::<Vec<_>>());
            }
            emit(&list(&entries))
        }
        AnswersCommand::Show { key, args } => {
            let records = open(&args.store)?.show(key).map_err(Error::from_answers)?;
            if args.json {
                return emit_json(&records);
            }
            records.iter().try_for_each(|record| emit(&show(record)?))
        }
        AnswersCommand::Verify(args) => {
            let verified = open(&args.store)?.verify().map_err(Error::from_answers)?;
            verify(&verified, args.json)
        }
        AnswersCommand::Cost(args) => {
            let folder = open(&args.store)?;
            let costs = folder.cost().map_err(Error::from_answers)?;
            let (lost, at_most) = folder.lost();
            if args.json {
                let rows: Vec<Value> = costs
                    .iter()
                    .map(|((plugin, model), cost)| cost_json(plugin, model, cost))
                    .collect();
                return emit_json(&json!({
                    "answers": rows,
                    "without_an_answer": lost,
                    "without_an_answer_usd_at_most": at_most.to_string(),
                }));
            }
            emit(&cost_table(costs.iter(), lost, at_most))
        }
        AnswersCommand::Batches(args) => {
            let folder = open(&args.store)?;
            if args.json {
                let all = folder.batches();
                return emit_json(&all.iter().map(batches::in_json).collect::<Vec<_>>());
            }
            emit(&batches::table(&folder))
        }
        AnswersCommand::CancelBatch {
            id,
            api_key_env,
            store,
        } => batches::cancel(&open(store)?, id, api_key_env),
        AnswersCommand::GiveUpBatch { id, store } => batches::give_up(&mut open(store)?, id),
        AnswersCommand::Again {
            keys,
            refused,
            unusable,
            dry_run,
            store,
        } => again(store, keys, (*refused, *unusable), *dry_run),
    }
}

fn open(store: &Path) -> Result<Folder> {
    let folder = Store::unopened(store).paid_answers();
    if !folder.is_dir() {
        return Err(Error::input(format!(
            "{} holds no answers: no plugin that asks a server has run with this store",
            store.display()
        ))
        .hint("--store says where the store lies"));
    }
    Folder::open(&folder).map_err(Error::from_answers)
}

/// Whether an answer is of the kinds that were asked for; of any where none was.
fn wanted(entry: &Entry, refused: bool, unusable: bool) -> bool {
    match &entry.reply {
        _ if !refused && !unusable => true,
        Ok(Reply::Refused { .. }) => refused,
        Ok(Reply::Unusable(_)) | Err(_) => unusable,
        Ok(Reply::Text(_)) => false,
    }
}

/// What an answer says, in a word and its beginning.
fn said(entry: &Entry) -> (&'static str, String) {
    match &entry.reply {
        Ok(Reply::Text(text)) => ("text", text.clone()),
        Ok(Reply::Refused {
            category,
            explanation,
        }) => ("refused", format!("{category}: {explanation}")),
        Ok(Reply::Unusable(failure)) => ("unusable", failure.to_string()),
        Err(reason) => ("unread", reason.clone()),
    }
}

fn list(entries: &[Entry]) -> String {
    let rows = entries.iter().map(|entry| {
        let (kind, text) = said(entry);
        let record = &entry.record;
        // A server of one's own names a file.
        let model = record.model_answered.rsplit('/').next().unwrap_or_default();
        [
            record.key.chars().take(KEY).collect(),
            record.plugin.clone(),
            beginning(&record.row, ROW),
            beginning(model, MODEL),
            dollars(record.usd()),
            kind.to_owned(),
            beginning(&text, SAYS),
        ]
    });
    let header = ["Key", "Plugin", "Row", "Model", "USD", "Is", "Says"];
    let mut text = ruled(&header, rows, TABLE_WIDTH, 1, |at| at == 4);
    let surplus = entries.iter().filter(|entry| entry.surplus).count();
    let _ = write!(text, "\n\n{} answers", entries.len());
    if surplus > 0 {
        let _ = write!(text, ", {surplus} of them to questions with an earlier one");
    }
    text.push_str(".\n");
    text
}

/// The beginning of a text on one line, `width` characters at most.
fn beginning(text: &str, width: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    line(&words.join(" "), width)
}

fn dollars(usd: Option<Usd>) -> String {
    usd.map_or_else(|| "–".to_owned(), |usd| usd.to_string())
}

fn in_json(entry: &Entry) -> Value {
    let (kind, text) = said(entry);
    let record = &entry.record;
    json!({
        "key": record.key,
        "plugin": record.plugin,
        "row": record.row,
        "template": record.template,
        "model_asked": record.model_asked,
        "model_answered": record.model_answered,
        "request_id": record.request_id,
        "input_tokens": record.input_tokens,
        "output_tokens": record.output_tokens,
        "usd": record.usd().map(|usd| usd.to_string()),
        "kept": record.kept,
        "is": kind,
        "says": text,
        "surplus": entry.surplus,
    })
}

fn show(record: &Record) -> Result<String> {
    let request = serde_json::to_string_pretty(&record.request)
        .map_err(|error| Error::internal(format!("a request does not serialise: {error}")))?;
    // A response may be any text; where it is JSON it is laid out.
    let response = serde_json::from_str::<Value>(&record.response)
        .and_then(|value| serde_json::to_string_pretty(&value))
        .unwrap_or_else(|_| record.response.clone());
    let mut text = String::new();
    for (name, value) in [
        ("key", record.key.clone()),
        ("plugin", record.plugin.clone()),
        ("row", record.row.clone()),
        (
            "template",
            format!("{} ({})", record.template, record.template_hash),
        ),
        (
            "server",
            format!("{}, {} {}", record.base_url, record.api, record.version),
        ),
        (
            "model",
            format!(
                "{}, answered by {}",
                record.model_asked, record.model_answered
            ),
        ),
        (
            "request id",
            record.request_id.clone().unwrap_or_else(|| "–".to_owned()),
        ),
        (
            "kept",
            format!(
                "{}, after {} tries, {:.1} s",
                record.kept, record.tries, record.seconds
            ),
        ),
        ("USD", dollars(record.usd())),
    ] {
        let _ = writeln!(text, "{name:<12}{value}");
    }
    let _ = write!(text, "\nrequest\n{request}\n\nresponse\n{response}\n");
    Ok(text)
}

fn verify(verified: &Verified, as_json: bool) -> Result<()> {
    if as_json {
        emit_json(&json!({
            "sound": verified.sound,
            "damaged": verified.damaged,
            "skipped": verified.skipped,
            "surplus": verified.surplus,
            "without_an_answer": verified.lost,
        }))?;
    } else {
        let mut text = String::new();
        for line in verified.damaged.iter().chain(&verified.skipped) {
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(
            text,
            "{} answers are sound, {} damaged; {} lines skipped; {} answers to questions with an earlier one; {} requests \
             without an answer.",
            verified.sound,
            verified.damaged.len(),
            verified.skipped.len(),
            verified.surplus,
            verified.lost,
        );
        emit(&text)?;
    }
    if verified.damaged.is_empty() {
        return Ok(());
    }
    Err(
        Error::gate(format!("{} answers are damaged", verified.damaged.len()))
            .hint("a damaged answer is not used: its question is asked again"),
    )
}

fn cost_json(plugin: &str, model: &str, cost: &Cost) -> Value {
    json!({
        "plugin": plugin,
        "model": model,
        "answers": cost.answers,
        "without_a_price": cost.unpriced,
        "input_tokens": cost.input,
        "output_tokens": cost.output,
        "usd": cost.usd.to_string(),
    })
}

fn cost_table<'a>(
    costs: impl Iterator<Item = (&'a (String, String), &'a Cost)>,
    lost: usize,
    at_most: Usd,
) -> String {
    let (mut total, mut answers, mut unpriced) = (Usd::ZERO, 0, 0);
    let rows: Vec<[String; 6]> = costs
        .map(|((plugin, model), cost)| {
            total = total.plus(cost.usd);
            answers += cost.answers;
            unpriced += cost.unpriced;
            [
                plugin.clone(),
                model.clone(),
                cost.answers.to_string(),
                cost.input.to_string(),
                cost.output.to_string(),
                cost.usd.to_string(),
            ]
        })
        .collect();
    let header = [
        "Plugin",
        "Model",
        "Answers",
        "Tokens in",
        "Tokens out",
        "USD",
    ];
    let mut text = ruled(&header, rows, TABLE_WIDTH, 1, |at| at >= 2);
    let _ = write!(text, "\n\n{answers} answers, {total}.\n");
    if unpriced > 0 {
        let _ = writeln!(
            text,
            "{unpriced} of them have no known price and are not in the sum."
        );
    }
    if lost > 0 {
        let _ = writeln!(
            text,
            "{lost} requests brought no answer and may be paid all the same, at most {at_most} as far as prices are known."
        );
    }
    text
}

fn again(
    store: &Path,
    keys: &[String],
    (refused, unusable): (bool, bool),
    dry_run: bool,
) -> Result<()> {
    if keys.is_empty() && !refused && !unusable {
        return Err(Error::input("no question is named")
            .hint("the beginnings of keys as `finegrain answers list` prints them, --refused or --unusable"));
    }
    let mut folder = open(store)?;
    let mut chosen = keys.to_vec();
    if refused || unusable {
        let entries = folder.list().map_err(Error::from_answers)?;
        let of_kind = entries
            .into_iter()
            .filter(|entry| wanted(entry, refused, unusable));
        chosen.extend(of_kind.map(|entry| entry.record.key));
        chosen.sort();
        chosen.dedup();
    }
    if dry_run {
        let mut text = String::new();
        for key in &chosen {
            for record in folder.show(key).map_err(Error::from_answers)? {
                let _ = writeln!(text, "{} {} {}", record.key, record.plugin, record.row);
            }
        }
        let _ = writeln!(text, "{} questions would be asked again.", chosen.len());
        return emit(&text);
    }
    let forgotten = folder.forget(&chosen).map_err(Error::from_answers)?;
    emit(&format!(
        "{forgotten} answers to {} questions count no more; the next run that needs them asks again.\n",
        chosen.len()
    ))
}
