//! What the verbs of the store print: text for a terminal, JSON for a program.

use std::fmt::Write as _;
use std::time::Duration;

use indicatif::{HumanBytes, HumanDuration};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::pipeline::store::gc::{GcReport, Reason};
use crate::pipeline::store::list::{Contents, Entry, LeftoverKind};
use crate::report::tables::ruled;

/// Every artifact, one a line, in `width` columns; then sums, and what is no artifact.
pub fn list(contents: &Contents, now: Timestamp, width: u16) -> String {
    let rows = contents.entries.iter().map(|entry| {
        let seconds = entry.record.as_ref().map_or_else(
            |_| "–".to_owned(),
            |record| format!("{:.1}", record.wall_seconds),
        );
        [
            entry.hash.clone(),
            entry.stage.clone(),
            HumanBytes(entry.bytes).to_string(),
            in_words(entry.age(now)),
            seconds,
            used_by(entry),
        ]
    });
    let header = ["Hash", "Stage", "Size", "Age", "Seconds", "Used by"];
    let mut text = ruled(&header, rows, width, 2, |at| (2..=4).contains(&at));
    text.push('\n');
    let bytes = contents.entries.iter().map(|entry| entry.bytes).sum();
    let _ = write!(
        text,
        "\n{} artifacts, {}.\n",
        contents.entries.len(),
        HumanBytes(bytes)
    );
    for entry in &contents.entries {
        if let Err(damage) = &entry.record {
            let _ = writeln!(text, "{}: {damage}.", entry.id());
        }
    }
    for (kind, words) in [
        (LeftoverKind::Damaged, "set aside as damaged"),
        (
            LeftoverKind::Unfinished,
            "unfinished: computed now, or left by a killed process",
        ),
        (LeftoverKind::HalfRemoved, "half removed"),
        (LeftoverKind::Answers, "of answers to stages"),
        (LeftoverKind::Checkpoints, "of checkpoints"),
    ] {
        let of_kind = contents.leftovers.iter().filter(|left| left.kind == kind);
        let (mut count, mut bytes) = (0, 0);
        for leftover in of_kind {
            count += 1;
            bytes += leftover.bytes;
        }
        if count > 0 {
            let _ = writeln!(
                text,
                "{count} folder{} {words}, {}.",
                plural(count),
                HumanBytes(bytes)
            );
        }
    }
    text
}

/// Every artifact and everything else as JSON.
pub fn list_json(contents: &Contents, now: Timestamp) -> Value {
    let leftovers: Vec<Value> = contents
        .leftovers
        .iter()
        .map(|leftover| {
            json!({
                "kind": kind_name(leftover.kind),
                "stage": leftover.stage,
                "hash": leftover.hash,
                "dir": leftover.dir.display().to_string(),
                "bytes": leftover.bytes,
            })
        })
        .collect();
    json!({
        "artifacts": contents.entries.iter().map(|entry| entry_json(entry, now)).collect::<Vec<_>>(),
        "leftovers": leftovers,
    })
}

fn entry_json(entry: &Entry, now: Timestamp) -> Value {
    let record = entry.record.as_ref().ok();
    json!({
        "stage": entry.stage,
        "hash": entry.hash,
        "dir": entry.dir.display().to_string(),
        "bytes": entry.bytes,
        "finished": entry.finished().to_string(),
        "age_seconds": entry.age(now).as_secs(),
        "wall_seconds": record.map(|record| record.wall_seconds),
        "used_by": entry.used_by.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>(),
        "damage": entry.record.as_ref().err().map(ToString::to_string),
    })
}

/// One artifact: what determined it, what it was made from, its files, who uses it.
pub fn show(entry: &Entry, now: Timestamp, width: u16) -> String {
    let mut text = format!("{} in {}\n", entry.id(), entry.dir.display());
    let record = match &entry.record {
        Ok(record) => record,
        Err(damage) => {
            let _ = writeln!(text, "\n{damage}.");
            return text;
        }
    };
    let _ = writeln!(
        text,
        "Finished {} ({} ago) after {:.1} s, format {}.",
        record.finished,
        in_words(entry.age(now)),
        record.wall_seconds,
        record.format
    );
    let _ = writeln!(text, "\nWhat determined it:\n{:#}", record.key);
    text.push_str("\nMade from:\n");
    if record.inputs.is_empty() {
        text.push_str("no other artifact\n");
    }
    for input in &record.inputs {
        let _ = writeln!(text, "{input}");
    }
    let rows = record.files.iter().map(|file| {
        [
            file.name.clone(),
            file.bytes.to_string(),
            file.sha256.clone(),
        ]
    });
    let header = ["File", "Bytes", "SHA-256"];
    let _ = write!(
        text,
        "\n{}",
        ruled(&header, rows, width.max(110), 2, |at| at == 1)
    );
    text.push('\n');
    text.push_str("\nUsed by:\n");
    if entry.used_by.is_empty() {
        text.push_str("no run directory\n");
    }
    for dir in &entry.used_by {
        let _ = writeln!(text, "{}", dir.display());
    }
    text
}

/// One artifact as JSON: what [`list_json`] says of it, and its record.
pub fn show_json(entry: &Entry, now: Timestamp) -> Value {
    let mut value = entry_json(entry, now);
    value["record"] = json!(entry.record.as_ref().ok());
    value
}

/// What a collection did, or would do.
pub fn gc(report: &GcReport, dry_run: bool) -> String {
    let (removed, forgotten) = if dry_run {
        ("would remove", "would forget")
    } else {
        ("removed", "forgot")
    };
    let mut text = String::new();
    for removal in &report.removed {
        let _ = writeln!(
            text,
            "{removed} {} ({}): {}",
            removal.dir.display(),
            HumanBytes(removal.bytes),
            reason(removal.reason)
        );
    }
    for dir in &report.forgotten {
        let _ = writeln!(
            text,
            "{forgotten} the run directory {}, which is no longer there",
            dir.display()
        );
    }
    let count = report.removed.len();
    let _ = writeln!(
        text,
        "{removed} {count} folder{}, {}; {} artifact{} in use, {} too young, {} locked",
        plural(count),
        HumanBytes(report.bytes()),
        report.used,
        plural(report.used),
        report.young,
        report.locked
    );
    text
}

fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Unused => "no existing run directory uses it",
        Reason::Leftover(LeftoverKind::Damaged) => "it is damaged",
        Reason::Leftover(LeftoverKind::Unfinished) => "a killed process left it",
        Reason::Leftover(LeftoverKind::HalfRemoved) => "an interrupted removal left it",
        Reason::Leftover(LeftoverKind::Answers) => {
            "answers that no existing run directory has asked for"
        }
        Reason::Leftover(LeftoverKind::Checkpoints) => {
            "checkpoints of a stage that is finished or that no existing run directory has asked for"
        }
    }
}

fn kind_name(kind: LeftoverKind) -> &'static str {
    match kind {
        LeftoverKind::Damaged => "damaged",
        LeftoverKind::Unfinished => "unfinished",
        LeftoverKind::HalfRemoved => "half-removed",
        LeftoverKind::Answers => "answers",
        LeftoverKind::Checkpoints => "checkpoints",
    }
}

/// The first run directory, as seen from here, and how many more there are.
fn used_by(entry: &Entry) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let Some(first) = entry.used_by.first() else {
        return "–".to_owned();
    };
    let first = first.strip_prefix(&here).unwrap_or(first).display();
    match entry.used_by.len() - 1 {
        0 => first.to_string(),
        more => format!("{first} and {more} more"),
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn in_words(length: Duration) -> String {
    format!("{:#}", HumanDuration(length))
}
