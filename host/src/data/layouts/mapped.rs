//! Rows whose fields the configuration names.

use serde_json::Value;

use super::preference::prefers_second;
use super::{Example, Reader, Reading, Refusal, Wanted, missing};
use crate::data::fields::{FieldPath, turns_left_out};
use crate::data::records::SetAsideReason;
use crate::data::template::with_input;

pub(super) fn read(reader: &Reader<'_>, row: &Value) -> Reading {
    let fields = reader.fields;
    let prompt = or_named(fields.prompt_field.as_ref(), "prompt");
    let response = or_named(fields.response_field.as_ref(), "response");
    let mut used = vec![&prompt];
    used.extend(&fields.input_field);
    let text = |path: &FieldPath| path.text(row).map(str::to_owned).map_err(missing);
    let input = match &fields.input_field {
        Some(path) if path.value(row).is_ok_and(|value| !value.is_null()) => text(path)?,
        // A row without the key has no input; a mapping that fits no row shows in the prompts.
        _ => String::new(),
    };
    let example = Example::of_prompt(with_input(&text(&prompt)?, &input));
    let example = match reader.wanted {
        Wanted::Reference if response.value(row).is_ok_and(|value| !value.is_null()) => {
            used.push(&response);
            example.with_response(text(&response)?)
        }
        Wanted::Prompt | Wanted::Reference => example,
        Wanted::Response => {
            used.push(&response);
            example.with_response(text(&response)?)
        }
        Wanted::Pair => {
            let (chosen, rejected) = pair(reader, row)?;
            used.extend(
                [&fields.chosen_field, &fields.rejected_field]
                    .into_iter()
                    .flatten(),
            );
            used.extend(
                [&fields.first_field, &fields.second_field]
                    .into_iter()
                    .flatten(),
            );
            example.with_response(chosen).with_rejected(rejected)
        }
    };
    match turns_left_out(&used, row) {
        Some(what) => Err((SetAsideReason::MoreTurns, what)),
        None => Ok(example),
    }
}

fn or_named(path: Option<&FieldPath>, name: &str) -> FieldPath {
    path.cloned().unwrap_or_else(|| FieldPath::new(name))
}

/// The preferred response and the other.
fn pair(reader: &Reader<'_>, row: &Value) -> Result<(String, String), Refusal> {
    let fields = reader.fields;
    let text = |path: &FieldPath| path.text(row).map(str::to_owned).map_err(missing);
    let Some(preference) = &fields.preference_field else {
        let chosen = or_named(fields.chosen_field.as_ref(), "chosen");
        let rejected = or_named(fields.rejected_field.as_ref(), "rejected");
        return Ok((text(&chosen)?, text(&rejected)?));
    };
    let first = text(&or_named(fields.first_field.as_ref(), "output_1"))?;
    let second = text(&or_named(fields.second_field.as_ref(), "output_2"))?;
    Ok(
        if prefers_second(preference.value(row).map_err(missing)?)? {
            (second, first)
        } else {
            (first, second)
        },
    )
}
