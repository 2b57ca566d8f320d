//! The tables as text for a terminal: at most [`WIDTH`] columns, no colours or other escape sequences.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Row, Table, TableStyle};

use super::comparison::ComparisonResult;
use super::sheet::Sheet;

/// The most columns that a table takes.
pub const WIDTH: u16 = 100;

/// A rule below the header, nothing else.
const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// Tables 1, 2 and 3 for a terminal of `width` columns, of which at most [`WIDTH`] are used.
pub fn render(result: &ComparisonResult, width: u16) -> String {
    let width = width.clamp(40, WIDTH);
    let mut text = blocks(&super::sheets(result), width);
    if !result.notes.is_empty() {
        text += "\n\n";
        text += &paragraphs(&result.notes, width);
    }
    text + "\n"
}

/// The tables that a terminal shows, those without rows left out, one below the other.
pub(super) fn blocks(sheets: &[Sheet], width: u16) -> String {
    let shown = sheets.iter().filter(|s| !s.detail && !s.rows.is_empty());
    let blocks: Vec<String> = shown.map(|s| block(s, width)).collect();
    blocks.join("\n\n")
}

fn block(sheet: &Sheet, width: u16) -> String {
    let right = |column| !sheet.text_columns.contains(&column);
    let table = ruled(&sheet.header, &sheet.rows, width, 1, right);
    let title = paragraphs(std::slice::from_ref(&sheet.title), width);
    let notes = paragraphs(&sheet.notes, width);
    format!("{title}\n{table}\n\n{notes}")
}

/// Rows below a header and a rule, in `width` columns: `gap` blanks behind each column, numbers where `right` says so.
pub fn ruled<R>(
    header: &(impl Clone + Into<Row>),
    rows: impl IntoIterator<Item = R>,
    width: u16,
    gap: u16,
    right: impl Fn(usize) -> bool,
) -> String
where
    R: Into<Row>,
{
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width)
        .set_header(header.clone())
        .add_rows(rows);
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, gap));
        if right(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// Sentences, each wrapped at the width and starting a line of its own.
pub fn paragraphs(sentences: &[String], width: u16) -> String {
    let mut table = Table::new();
    table
        .load_style(TableStyle::new())
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width)
        .add_rows(sentences.iter().map(|sentence| [sentence]));
    if let Some(column) = table.column_mut(0) {
        column.set_padding((0, 0));
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::comparison::tests::example;

    #[test]
    fn one_seed() {
        let text = render(&example(&[1]), WIDTH);
        assert_eq!(
            text,
            include_str!("snapshots/one_seed.txt"),
            "found:\n{text}"
        );
    }

    #[test]
    fn three_seeds() {
        let text = render(&example(&[1, 2, 3]), WIDTH);
        assert_eq!(
            text,
            include_str!("snapshots/three_seeds.txt"),
            "found:\n{text}"
        );
    }

    #[test]
    fn never_wider_than_asked_and_never_coloured() {
        for width in [60, 80, 100, 300] {
            let text = render(&example(&[1, 2]), width);
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(
                widest <= usize::from(width.min(WIDTH)),
                "{widest} of {width}:\n{text}"
            );
            assert!(!text.contains('\u{1b}'));
        }
    }
}
