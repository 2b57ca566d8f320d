//! The table of rows that were not used, for reports on paper; the terminal has said it when the stages ended.

use super::comparison::ComparisonResult;
use super::sheet::Sheet;

pub(super) fn sheets(result: &ComparisonResult) -> Vec<Sheet> {
    let header = ["Stage", "Variant", "Seed", "Reason", "Rows", "First"];
    let mut sheet = Sheet::new("Rows that were not used", &header);
    sheet.text_columns.extend([1, 3, 5]);
    sheet.detail = true;
    for row in &result.set_aside {
        sheet.push([
            row.stage.clone(),
            row.variant.clone(),
            row.seed.to_string(),
            row.reason.clone(),
            row.rows.to_string(),
            row.first.clone(),
        ]);
    }
    sheet.note("A stage that several variants share stands once, with the first of them. Each row is in `set_aside.jsonl` of its \
                stage, with what was found.");
    vec![sheet]
}
