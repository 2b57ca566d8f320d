//! From a question of the dialogue to one of the client, and the conversation that leads to another try.

use finegrain_dialogue::TemplateId;
use finegrain_model_server::{Answer, Question, Schema, Template};
use finegrain_sdk::Result;
use finegrain_sdk::serde_json::Value;

/// The first question about a row.
pub(crate) fn first(
    id: &str,
    question: finegrain_dialogue::Question,
    schema: Option<Value>,
    template: &TemplateId,
    name: &str,
) -> Question {
    let mut first = Question::new(id, question.system, question.user);
    first.schema = schema.map(|schema| Schema {
        name: name.to_owned(),
        schema,
    });
    first.template = Template {
        name: format!("{} v{}", template.name, template.version),
        hash: template.sha256.clone(),
    };
    first
}

/// The question that follows so many answers with a text: the same conversation, with each of them and what the user said to
/// it. `again` is the user's turn after an answer. A blank answer is left out, for servers refuse a blank turn.
pub(crate) fn after(
    mut question: Question,
    tries: &[Answer],
    again: impl Fn(&str) -> Result<Option<String>>,
) -> Result<Option<Question>> {
    for text in tries.iter().filter_map(Answer::text) {
        if text.trim().is_empty() {
            question.sample += 1;
            continue;
        }
        match again(text)? {
            Some(turn) => question = question.then(text, turn),
            None => return Ok(None),
        }
    }
    Ok(Some(question))
}
