//! Edits as word diffs: what was taken out red and struck, what was put in green; without colours `[-out-]{+in+}`.

use std::fmt::Write as _;

use console::Style;

use super::figures::{Figures, Measure};
use super::pieces::{Piece, pieces};
use super::source::EditSet;
use crate::config::nearest;
use crate::data::records::{EditRecord, Outcome};
use crate::error::{Error, Result};
use crate::inspect::{line, plain};

/// Which edits come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Order {
    /// The order of the files.
    #[default]
    First,
    /// The largest share of changed tokens.
    Share,
    /// The most changed tokens.
    Changed,
    /// The most separate changes.
    Changes,
    /// The most added length.
    Longer,
    /// The most removed length.
    Shorter,
}

/// How diffs are laid out.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Columns of a line, at least 20.
    pub width: usize,
    /// Whether escape sequences may be printed.
    pub coloured: bool,
}

/// The edits of a set with their figures, the first `n` by `order`; equal ones stay in the order of the files.
///
/// # Errors
/// A prompt that the run's template refuses.
pub fn chosen<'a>(
    set: &'a EditSet,
    measure: &Measure<'_>,
    order: Order,
    n: usize,
) -> Result<Vec<(&'a EditRecord, Figures)>> {
    let mut rows = Vec::new();
    for row in &set.rows {
        if let Some(figures) = measure.of(row)? {
            rows.push((row, figures));
        }
    }
    let key = |figures: &Figures| match order {
        Order::First => 0.0,
        Order::Share => figures.share,
        Order::Changed => figures.changed as f64,
        Order::Changes => figures.changes as f64,
        Order::Longer => figures.length_ratio.unwrap_or(f64::INFINITY),
        Order::Shorter => -figures.length_ratio.unwrap_or(f64::INFINITY),
    };
    rows.sort_by(|a, b| key(&b.1).total_cmp(&key(&a.1)));
    rows.truncate(n);
    Ok(rows)
}

/// The row of an id.
///
/// # Errors
/// No such id: the hint names the nearest.
pub fn find<'a>(set: &'a EditSet, id: &str) -> Result<&'a EditRecord> {
    set.rows.iter().find(|row| row.id == id).ok_or_else(|| {
        let near = nearest(id, set.rows.iter().map(|row| row.id.as_str()), 3);
        let error = Error::input(format!(
            "--id {id}: {} has {} rows and none of this id",
            set.from,
            set.rows.len()
        ));
        if near.is_empty() {
            error
        } else {
            error.hint(format!("there are {} and others", near.join(", ")))
        }
    })
}

/// A row with its figures, where it has some: a heading, the prompt cut to a line, the diff.
pub fn render(row: &EditRecord, figures: Option<(&Figures, &str)>, layout: Layout) -> String {
    let mut text = plain(&row.id);
    if let Some((figures, unit)) = figures {
        let _ = write!(
            text,
            ": {} of {} {unit} changed ({:.1}%), {} {}",
            figures.changed,
            figures.units[0] + figures.units[1],
            100.0 * figures.share,
            figures.changes,
            if figures.changes == 1 {
                "change"
            } else {
                "changes"
            },
        );
        if let Some(ratio) = figures.length_ratio {
            let _ = write!(text, ", length × {ratio:.2}");
        }
    }
    let mut text = line(&text, layout.width);
    if !row.prompt.is_empty() {
        let _ = write!(
            text,
            "\n{}",
            line(&format!("prompt: {}", row.prompt), layout.width)
        );
    }
    text.push('\n');
    match &row.outcome {
        Outcome::Edited { response } => {
            text += &wrapped(&pieces(&row.original, response), layout);
        }
        Outcome::Unchanged => text += &said("unchanged", "", row, layout),
        Outcome::Refused { reason } => text += &said("refused", reason, row, layout),
        Outcome::Rejected { reason } => text += &said("rejected", reason, row, layout),
        Outcome::Failed { error } => text += &said("failed", error, row, layout),
    }
    text
}

/// A row without an edit: why, and the response.
fn said(outcome: &str, reason: &str, row: &EditRecord, layout: Layout) -> String {
    let reason = if reason.is_empty() {
        format!("{outcome}\n")
    } else {
        format!("{}\n", line(&format!("{outcome}: {reason}"), layout.width))
    };
    reason + &wrapped(&[Piece::Kept(&row.original)], layout)
}

/// Pieces as lines of at most so many columns; a line ends where the text has a line break, or at white space.
fn wrapped(pieces: &[Piece<'_>], layout: Layout) -> String {
    let mut lines = Lines::new(layout.width.max(20));
    for piece in pieces {
        let (style, text, around) = match piece {
            Piece::Kept(text) => (None, *text, ["", ""]),
            Piece::Deleted(text) => (
                Some(Style::new().red().strikethrough()),
                *text,
                ["[-", "-]"],
            ),
            Piece::Inserted(text) => (Some(Style::new().green()), *text, ["{+", "+}"]),
        };
        let changed = style.is_some();
        let style = style.filter(|_| layout.coloured);
        let [open, close] = if layout.coloured { ["", ""] } else { around };
        lines.push(open, None);
        // White space that changed is to be seen.
        let shown = if changed && text.trim().is_empty() {
            plain(text).replace(' ', "␣")
        } else {
            text.to_owned()
        };
        for part in shown.split_inclusive([' ', '\n']) {
            let word = part.trim_end_matches([' ', '\n']);
            lines.push(&plain(word), style.as_ref());
            match part.chars().last() {
                Some('\n') => lines.end(),
                Some(' ') => lines.blank(),
                _ => {}
            }
        }
        lines.push(close, None);
    }
    lines.finish()
}

/// Lines that are filled word by word; parts without a blank between them stay together.
struct Lines {
    width: usize,
    text: String,
    column: usize,
    /// What is not put down yet: no blank has come behind it.
    word: String,
    word_width: usize,
    blank: bool,
}

impl Lines {
    fn new(width: usize) -> Self {
        Self {
            width,
            text: String::new(),
            column: 0,
            word: String::new(),
            word_width: 0,
            blank: false,
        }
    }

    /// A part of a word. One that is wider than a line is cut into lines.
    fn push(&mut self, part: &str, style: Option<&Style>) {
        let styled = |part: &str| match style {
            Some(style) => style.clone().force_styling(true).apply_to(part).to_string(),
            None => part.to_owned(),
        };
        let mut rest = part;
        while self.word_width + console::measure_text_width(rest) > self.width {
            let room = self.width - self.word_width;
            let mut cut = 0;
            for (at, char) in rest.char_indices() {
                let end = at + char.len_utf8();
                if console::measure_text_width(&rest[..end]) > room {
                    break;
                }
                cut = end;
            }
            self.word += &styled(&rest[..cut]);
            self.put_down();
            self.end_line();
            rest = &rest[cut..];
        }
        if !rest.is_empty() {
            self.word += &styled(rest);
            self.word_width += console::measure_text_width(rest);
        }
    }

    fn blank(&mut self) {
        self.put_down();
        self.blank = true;
    }

    fn end(&mut self) {
        self.put_down();
        self.end_line();
    }

    fn put_down(&mut self) {
        if self.word.is_empty() {
            return;
        }
        let gap = usize::from(self.blank && self.column > 0);
        if self.column + gap + self.word_width > self.width && self.column > 0 {
            self.end_line();
        } else if gap > 0 {
            self.text.push(' ');
            self.column += 1;
        }
        self.text += &self.word;
        self.column += self.word_width;
        self.word.clear();
        self.word_width = 0;
        self.blank = false;
    }

    fn end_line(&mut self) {
        self.text.push('\n');
        self.column = 0;
        self.blank = false;
    }

    fn finish(mut self) -> String {
        self.put_down();
        if !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.text
    }
}
