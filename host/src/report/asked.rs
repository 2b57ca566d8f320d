//! The table of what plugins asked servers for: answers, tokens, money, models.

use super::comparison::ComparisonResult;
use super::sheet::Sheet;

pub(super) fn sheets(result: &ComparisonResult) -> Vec<Sheet> {
    let header = [
        "Stage",
        "Variant",
        "Seed",
        "Plugin",
        "Rows",
        "Answers",
        "Tokens in",
        "out",
        "USD",
        "Models",
    ];
    let mut sheet = Sheet::new("What servers were asked", &header);
    sheet.text_columns.extend([1, 3, 9]);
    for row in &result.asked {
        let asked = &row.asked;
        let models: Vec<&str> = asked.models.keys().map(String::as_str).collect();
        sheet.push([
            row.stage.clone(),
            row.variant.clone(),
            row.seed.to_string(),
            asked.plugin.clone(),
            asked.rows.to_string(),
            asked.requests.to_string(),
            asked.input_tokens.to_string(),
            asked.output_tokens.to_string(),
            asked.cost(),
            models.join(", "),
        ]);
    }
    sheet.note(
        "Answers that earlier runs have paid for are in it: it says what the rows cost, and not what this run was charged. A \
         stage that several variants share stands once, with the first of them.",
    );
    vec![sheet]
}
