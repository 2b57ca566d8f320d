//! AlpacaFarm's rows (Dubois et al., 2023): `instruction`, `input`, and `output`, or `output_1`, `output_2` and `preference`.
//! AlpacaEval's model outputs have the same keys.

use serde_json::Value;

use super::preference::prefers_second;
use super::{Example, Reader, Reading, Wanted, missing, optional_text, text};
use crate::data::template::with_input;

pub(super) fn read(reader: &Reader<'_>, row: &Value) -> Reading {
    let instruction = text(row, "instruction")?;
    let input = optional_text(row, "input")?.unwrap_or_default();
    let example = Example::of_prompt(with_input(instruction, input));
    match reader.wanted {
        Wanted::Prompt => Ok(example),
        Wanted::Response => Ok(example.with_response(text(row, "output")?)),
        Wanted::Reference => Ok(match optional_text(row, "output")? {
            Some(output) => example.with_response(output),
            None => example,
        }),
        Wanted::Pair => {
            let (first, second) = (text(row, "output_1")?, text(row, "output_2")?);
            let preference = row
                .get("preference")
                .ok_or_else(|| missing("no key `preference`"))?;
            let (chosen, rejected) = if prefers_second(preference)? {
                (second, first)
            } else {
                (first, second)
            };
            Ok(example.with_response(chosen).with_rejected(rejected))
        }
    }
}
