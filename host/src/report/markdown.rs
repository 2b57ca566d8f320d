//! The tables as Markdown (GitHub's dialect), with a row per seed beside the summaries.

use super::comparison::ComparisonResult;
use super::sheet::Sheet;

/// Tables 1, 2 and 3 with their details, as a page that ends with a newline.
pub fn render(result: &ComparisonResult) -> String {
    let mut page = String::from("# Comparison\n");
    let variants = result.variants.iter().map(|variant| {
        let trained = variant.trained_on.map_or_else(
            || "no reward model".to_owned(),
            |on| format!("reward model trained on {on}"),
        );
        format!(
            "- **{}**: {trained}, reward scheme `{}`",
            escape(&variant.name),
            variant.scheme
        )
    });
    page += "\n";
    page += &variants.collect::<Vec<_>>().join("\n");
    page += "\n";
    for sheet in super::sheets(result).iter().filter(|s| !s.rows.is_empty()) {
        page += &section(sheet);
    }
    if !result.notes.is_empty() {
        page += "\n## Notes\n\n";
        page += &bullets(&result.notes);
    }
    page
}

fn section(sheet: &Sheet) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let escaped = |cells: &[String]| cells.iter().map(|c| escape(c)).collect::<Vec<_>>();
    let rule: Vec<String> = (0..sheet.header.len())
        .map(|i| {
            if sheet.text_columns.contains(&i) {
                "---"
            } else {
                "---:"
            }
            .to_owned()
        })
        .collect();
    let mut text = format!("\n## {}\n\n", escape(&sheet.title));
    text += &line(&escaped(&sheet.header));
    text += &line(&rule);
    for row in &sheet.rows {
        text += &line(&escaped(row));
    }
    if !sheet.notes.is_empty() {
        text += "\n";
        text += &bullets(&sheet.notes);
    }
    text
}

fn bullets(sentences: &[String]) -> String {
    let lines: Vec<String> = sentences
        .iter()
        .map(|s| format!("- {}\n", escape(s)))
        .collect();
    lines.concat()
}

/// Text that means itself in a cell: names come from configurations.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('|', "\\|")
        .replace(['\n', '\r'], " ")
        .replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::comparison::tests::example;

    #[test]
    fn a_page() {
        let text = render(&example(&[1]));
        assert_eq!(
            text,
            include_str!("snapshots/one_seed.md"),
            "found:\n{text}"
        );
    }

    #[test]
    fn names_cannot_break_a_table() {
        let mut result = example(&[1]);
        result.win_rates[0].variant = "a | b\n<script>".to_owned();
        let text = render(&result);
        assert!(text.contains("| a \\| b &lt;script> | 46.5 [43.0, 50.0] |"));
    }
}
