//! The editor: finds each request's line and says what came of it.

use std::collections::BTreeSet;

use finegrain_sdk::context::LogLevel;
use finegrain_sdk::info::{Capabilities, PluginInfo};
use finegrain_sdk::kinds::{EditOutcome, EditRequests, EditSink, Editor};
use finegrain_sdk::rng::Stream;
use finegrain_sdk::{CallContext, Plugin, Result};

use crate::edits::{self, Edit, Edits, Key};
use crate::options::{MatchBy, Options, Repeats};

/// How many unmatched lines a warning names.
const NAMED: usize = 5;

/// The editor `human`.
#[derive(Clone, Debug)]
pub struct Human {
    options: Options,
    edits: Edits,
}

impl Human {
    /// The line that counts among those under one key.
    fn choose<'a>(&self, same: &'a [Edit], id: &str, seed: u64) -> Option<&'a Edit> {
        match self.options.repeats {
            Repeats::Refuse | Repeats::First => same.first(),
            Repeats::Last => same.last(),
            // The step is left out, so that a run that is resumed draws the same line.
            Repeats::Random => {
                let draw = Stream::new(seed).child("human").child(id).seed();
                same.get((draw % same.len().max(1) as u64) as usize)
            }
        }
    }

    /// What the line says about the response that was asked about.
    fn outcome(&self, edit: &Edit, response: &str) -> EditOutcome {
        let place = format!("{}:{}", self.options.path, edit.line);
        match &edit.edited {
            _ if edit
                .response
                .as_deref()
                .is_some_and(|seen| seen != response) =>
            {
                EditOutcome::Failed(format!("{place} edits another response than this one"))
            }
            None => EditOutcome::Refused(format!("skipped by the annotator ({place})")),
            Some(edited) if edited.trim().is_empty() => {
                EditOutcome::Refused(format!("the edit is empty ({place})"))
            }
            Some(edited) if edited == response => EditOutcome::Unchanged,
            Some(edited) => EditOutcome::Edited(edited.clone()),
        }
    }

    /// Warns of lines that belong to none of the requests of this call.
    fn report_unmatched(&self, matched: &BTreeSet<Key>, context: &CallContext<'_>) {
        let unmatched: Vec<&str> = self
            .edits
            .iter()
            .filter(|(key, _)| !matched.contains(key))
            .flat_map(|(_, same)| same.iter().map(|edit| edit.name.as_str()))
            .collect();
        if unmatched.is_empty() {
            return;
        }
        let total: usize = self.edits.values().map(Vec::len).sum();
        let named = unmatched[..unmatched.len().min(NAMED)].join(", ");
        let more = if unmatched.len() > NAMED { ", …" } else { "" };
        context.log(
            LogLevel::Warn,
            &format!(
                "{}: {} of {total} edits belong to no response of this call: {named}{more}",
                self.options.path,
                unmatched.len()
            ),
        );
    }
}

impl Plugin for Human {
    const NAME: &'static str = "human";
    type Options = Options;

    fn info() -> PluginInfo {
        PluginInfo {
            summary: "imports edits that people have written, from JSONL".to_owned(),
            description: "One JSON object a line, matched by id or by prompt and response. A response without a line is \
                refused with \"no edit in FILE\"; lines without a response are named in the log. A line with null as its \
                edit was skipped by the annotator. The file is read when the editor is made."
                .to_owned(),
            references: Vec::new(),
            capabilities: Capabilities::default(),
            examples: vec![
                "[editor]\nuse = \"human\"\noptions = { path = \"edits.jsonl\", match_by = \"id\", edited_field = \"edited\" }"
                    .to_owned(),
            ],
        }
    }

    fn new(options: Options) -> Result<Self> {
        let edits = edits::read(&options)?;
        Ok(Self { options, edits })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            files: vec![self.options.path.clone()],
            ..Capabilities::default()
        }
    }
}

impl Editor for Human {
    fn edit(
        &self,
        requests: &EditRequests<'_>,
        sink: &mut dyn EditSink,
        context: &CallContext<'_>,
    ) -> Result<()> {
        let rows = requests.ids.rows();
        let mut matched = BTreeSet::new();
        for row in 0..rows {
            context.check_cancelled()?;
            let (id, response) = (requests.ids.row(row), requests.responses.row(row));
            let key = match self.options.match_by {
                MatchBy::Id => Key::Id(id.to_owned()),
                MatchBy::Text => {
                    Key::Text(requests.prompts.row(row).to_owned(), response.to_owned())
                }
            };
            let outcome = self
                .edits
                .get(&key)
                .and_then(|same| self.choose(same, id, context.seed))
                .map_or_else(
                    || EditOutcome::Refused(format!("no edit in {}", self.options.path)),
                    |edit| self.outcome(edit, response),
                );
            sink.push(row, outcome)?;
            matched.insert(key);
            context.progress(row as u64 + 1, rows as u64);
        }
        self.report_unmatched(&matched, context);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
