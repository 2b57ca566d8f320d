//! One table of the preferences: a file, its layout, and its rows.

use std::collections::HashMap;

use crate::data::config::FileConfig;
use crate::data::fields::FieldPath;
use crate::data::layouts::{self, Example, Reader, Wanted};
use crate::data::records::{
    Demonstration, Pair, PairSource, PromptRecord, SetAside, SetAsideReason,
};
use crate::data::rows::Rows;
use crate::error::{Error, Result};

/// A table and what is asked of it.
pub(super) struct Source<'a> {
    /// The name below `data`.
    pub(super) table: &'static str,
    pub(super) file: &'a FileConfig,
    pub(super) wanted: Wanted,
    /// Rows with the same value here stay together; those with the same prompt where it is absent.
    pub(super) group_field: Option<&'a FieldPath>,
    pub(super) several_turns: bool,
}

/// A row that is used.
#[derive(Clone, Debug)]
pub(super) struct TableRow {
    pub(super) id: String,
    /// By what it is split.
    pub(super) group: String,
    pub(super) example: Example,
}

impl TableRow {
    pub(super) fn prompt(self) -> PromptRecord {
        PromptRecord {
            id: self.id,
            prompt: self.example.prompt,
        }
    }

    /// A row whose layout gave a response.
    pub(super) fn demonstration(self) -> Demonstration {
        Demonstration {
            id: self.id,
            prompt: self.example.prompt,
            response: self.example.response.unwrap_or_default(),
        }
    }

    /// A row whose layout gave two responses.
    pub(super) fn pair(self) -> Pair {
        Pair {
            id: self.id,
            prompt: self.example.prompt,
            chosen: self.example.response.unwrap_or_default(),
            rejected: self.example.rejected.unwrap_or_default(),
            chosen_ended: true,
            rejected_ended: true,
            flipped: false,
            source: PairSource::Pairs,
            sampled: None,
        }
    }
}

impl Source<'_> {
    /// The rows of the table; `None` where it names no file. What it was taken for is said, and what is not used set aside.
    pub(super) fn read_where_there(
        &self,
        said: &mut Vec<String>,
        set_aside: &mut Vec<SetAside>,
    ) -> Result<Option<Vec<TableRow>>> {
        if !self.file.is_there() {
            return Ok(None);
        }
        let table = self.table;
        self.read(said, set_aside)
            .map(Some)
            .map_err(|error| error.context(format_args!("data.{table}")))
    }

    fn read(&self, said: &mut Vec<String>, set_aside: &mut Vec<SetAside>) -> Result<Vec<TableRow>> {
        let all = Rows::read(&self.file.path, self.file.max_rows)?;
        self.of_rows(&all, said, set_aside)
    }

    /// The rows of the table out of those of its file.
    pub(super) fn of_rows(
        &self,
        all: &Rows,
        said: &mut Vec<String>,
        set_aside: &mut Vec<SetAside>,
    ) -> Result<Vec<TableRow>> {
        let named = match self.file.layout {
            layouts::Layout::Auto if self.file.names_fields() => layouts::Layout::Fields,
            layout => layout,
        };
        let layout = layouts::of_rows(named, all, self.wanted)?;
        let reader = Reader {
            fields: self.file,
            layout,
            wanted: self.wanted,
            several_turns: self.several_turns,
        };
        let mut rows = Vec::with_capacity(all.rows.len());
        let before = set_aside.len();
        let mut places = HashMap::new();
        let named = |row: &SetAside| SetAside {
            id: format!("{}:{}", self.table, row.id),
            ..row.clone()
        };
        for row in &all.rows {
            let id = all.named(row, self.file.id_field.as_ref(), &mut places)?;
            let group = match self.group_field {
                Some(field) => field
                    .name(&row.values)
                    .map(Some)
                    .map_err(|found| (SetAsideReason::MissingField, found)),
                None => Ok(None),
            };
            let read = group.and_then(|group| Ok((group, reader.read(&row.values)?)));
            match read {
                Ok((group, example)) => rows.push(TableRow {
                    group: group.unwrap_or_else(|| example.prompt.trim().to_owned()),
                    id,
                    example,
                }),
                Err((reason, detail)) => set_aside.push(named(&SetAside::new(id, reason, detail))),
            }
        }
        set_aside.extend(all.set_aside().map(|row| named(&row)));
        if rows.is_empty() {
            let aside = &set_aside[before..];
            let error = Error::input(format!(
                "{}: none of {} rows can be used as layout {layout} ({})",
                self.file.path.display(),
                all.len(),
                crate::data::records::counted(aside)
            ));
            return Err(match aside.first() {
                Some(row) => error.hint(format!("row {}: {}", row.id, row.detail)),
                None => error,
            });
        }
        said.push(format!(
            "{}: {} of {} rows of {}, layout {layout}",
            self.table,
            rows.len(),
            all.len(),
            self.file.path.display()
        ));
        Ok(rows)
    }
}
