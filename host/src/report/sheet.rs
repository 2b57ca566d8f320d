//! A table before it is printed: text in cells, whatever it will be printed as.

/// A table with its title and the sentences below it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sheet {
    /// One line above the table.
    pub(super) title: String,
    /// Names of the columns.
    pub(super) header: Vec<String>,
    /// Columns that hold text and not figures, which are flushed right.
    pub(super) text_columns: Vec<usize>,
    /// Rows, each as long as the header.
    pub(super) rows: Vec<Vec<String>>,
    /// Sentences below the table.
    pub(super) notes: Vec<String>,
    /// Only for reports on paper: the terminal leaves it out.
    pub(super) detail: bool,
}

impl Sheet {
    /// An empty table.
    pub(super) fn new(title: impl Into<String>, header: &[&str]) -> Self {
        Self {
            title: title.into(),
            header: header.iter().map(ToString::to_string).collect(),
            text_columns: vec![0],
            rows: Vec::new(),
            notes: Vec::new(),
            detail: false,
        }
    }

    /// Appends a row, which has a cell per column.
    pub(super) fn push<const N: usize>(&mut self, row: [String; N]) {
        assert_eq!(
            N,
            self.header.len(),
            "invariant: a row has a cell per column"
        );
        self.rows.push(row.into());
    }

    /// Appends a sentence below the table.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}
