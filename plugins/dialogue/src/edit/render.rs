//! The answer of a model that does as it is told.

use finegrain_sdk::serde_json::{Value as Json, json};

use super::replacements::of_difference;
use super::{EditDialogue, Marks};
use crate::options::AnswerFormat;

impl EditDialogue {
    /// What a model answers that makes `edited` out of the response, or leaves it as it is (`None`): for tests, and for
    /// stand-ins of a server. [`EditDialogue::read`] reads it back.
    pub fn answer(&self, prompt: &str, response: &str, edited: Option<&str>) -> String {
        let marks = Marks::of(prompt, response);
        let reason = "an example";
        match (self.options.format, edited) {
            (AnswerFormat::Text, None) => marks.unchanged,
            (AnswerFormat::Text, Some(edited)) if self.template.uses("open") => {
                format!("{}\n{edited}\n{}", marks.open, marks.close)
            }
            (AnswerFormat::Text, Some(edited)) => edited.to_owned(),
            (AnswerFormat::Json, edited) => json!({
                "reason": reason,
                "unchanged": edited.is_none(),
                "edited": edited.unwrap_or_default(),
            })
            .to_string(),
            (AnswerFormat::Replacements, edited) => {
                let list = edited.map_or_else(Vec::new, |edited| of_difference(response, edited));
                let list: Vec<Json> = list
                    .into_iter()
                    .map(|one| {
                        json!({
                            "find": one.find,
                            "replace": one.replace,
                            "occurrence": one.occurrence.unwrap_or_default(),
                        })
                    })
                    .collect();
                json!({"reason": reason, "replacements": list}).to_string()
            }
        }
    }
}
