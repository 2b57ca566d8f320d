//! The table of what plugins asked servers for: answers, tokens, money, models.

use std::collections::{BTreeMap, BTreeSet};

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
    ];
    let mut sheet = Sheet::new("What servers were asked", &header);
    sheet.text_columns.extend([1, 3]);
    // Names of models can be long (a local server says the path of its file), so they stand below.
    let mut answered: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in &result.asked {
        let asked = &row.asked;
        let models = answered.entry(&asked.plugin).or_default();
        models.extend(asked.models.keys().map(String::as_str));
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
        ]);
    }
    sheet.note(
        "Answers that earlier runs have paid for are in it: it says what the rows cost, and not what this run was charged. A \
         stage that several variants share stands once, with the first of them.",
    );
    let answered = answered.into_iter().map(|(plugin, models)| {
        let models: Vec<&str> = models.into_iter().collect();
        format!("{plugin} by {}", models.join(" and "))
    });
    let answered: Vec<String> = answered.collect();
    if !answered.is_empty() {
        sheet.note(format!("Answered: {}.", answered.join("; ")));
    }
    vec![sheet]
}

#[cfg(test)]
mod tests {
    use crate::data::asked::Asked;
    use crate::report::AskedRow;
    use crate::report::comparison::tests::example;
    use crate::report::tables::{WIDTH, render};

    #[test]
    fn what_was_asked_has_a_table_where_somebody_was_asked() {
        let mut result = example(&[1]);
        assert!(!render(&result, WIDTH).contains("servers"));
        result.asked.push(AskedRow {
            stage: "edits".into(),
            variant: "fine-grained PPO".into(),
            seed: 1,
            asked: Asked {
                plugin: "editor/claude".into(),
                rows: 20,
                requests: 23,
                input_tokens: 10_400,
                output_tokens: 4100,
                usd: 0.00309,
                models: [("claude-haiku-5-5".to_owned(), 20)].into(),
                ..Asked::default()
            },
        });
        let text = render(&result, WIDTH);
        let table = text.split("What servers were asked").nth(1).unwrap();
        for word in [
            "editor/claude",
            "10400",
            "$0.003",
            "Answered: editor/claude by claude-haiku-5-5.",
        ] {
            assert!(table.contains(word), "{word}: {table}");
        }
        let widest = table.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(usize::from(WIDTH)), "{table}");
        let json = result.to_json().unwrap();
        let read = crate::report::ComparisonResult::from_json(&json).unwrap();
        assert_eq!(read, result);
    }
}
