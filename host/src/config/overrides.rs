//! `--set key=value`: existing keys only, values in TOML's notation, bare words taken as strings.

use toml::{Table, Value};

use crate::config::nearest;
use crate::error::{Error, Result};

/// Puts one `key=value` into the table, as [`put`] does. Returns the key.
pub(super) fn apply(table: &mut Table, known: &serde_json::Value, text: &str) -> Result<String> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(Error::input(format!("--set {text}: no `=`")).hint("--set ppo.kl_coef=0.1"));
    };
    let key = key.trim();
    put(table, known, key, parse_value(value.trim()))
        .map_err(|error| error.context(format!("--set {key}")))?;
    Ok(key.to_owned())
}

/// Puts a value into the table under a dotted key. `known` is the whole configuration with its defaults, as JSON: a key has
/// to be in it, except below an `options` table, whose keys are the plugin's.
pub(super) fn put(
    table: &mut Table,
    known: &serde_json::Value,
    key: &str,
    value: Value,
) -> Result<()> {
    check_known(known, key)?;
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().unwrap_or(key);
    put_below(table, &parts, last, value)
}

/// A TOML value, or the text itself where it is none (`--set data.path=edits.jsonl`).
fn parse_value(text: &str) -> Value {
    toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn check_known(known: &serde_json::Value, key: &str) -> Result<()> {
    let mut at = known;
    let mut walked = String::new();
    for part in key.split('.') {
        if walked.ends_with("options") {
            return Ok(());
        }
        let next = match at {
            serde_json::Value::Object(map) => map.get(part),
            serde_json::Value::Array(items) => part
                .parse::<usize>()
                .ok()
                .and_then(|index| items.get(index)),
            _ => None,
        };
        let Some(next) = next else {
            return Err(unknown(known, at, &walked, part, key));
        };
        at = next;
        walked = if walked.is_empty() {
            part.to_owned()
        } else {
            format!("{walked}.{part}")
        };
    }
    Ok(())
}

fn unknown(
    root: &serde_json::Value,
    at: &serde_json::Value,
    walked: &str,
    part: &str,
    key: &str,
) -> Error {
    let names: Vec<String> = match at {
        serde_json::Value::Object(map) => map.keys().cloned().collect(),
        serde_json::Value::Array(items) => {
            (0..items.len()).map(|index| index.to_string()).collect()
        }
        _ => Vec::new(),
    };
    let prefix = if walked.is_empty() {
        String::new()
    } else {
        format!("{walked}.")
    };
    let mut near: Vec<String> = nearest(part, names.iter().map(String::as_str), 2)
        .into_iter()
        .map(|name| format!("{prefix}{name}"))
        .collect();
    if near.is_empty() {
        let mut all = Vec::new();
        every_key(root, "", &mut all);
        near = nearest(key, all.iter().map(String::as_str), 2)
            .into_iter()
            .map(str::to_owned)
            .collect();
    }
    let error = Error::input("there is no such key");
    match near.as_slice() {
        [] => error.hint("docs/config.md lists every key"),
        near => error.hint(format!("did you mean {}?", near.join(" or "))),
    }
}

fn every_key(value: &serde_json::Value, prefix: &str, keys: &mut Vec<String>) {
    if let serde_json::Value::Object(map) = value {
        for (name, inner) in map {
            let key = format!("{prefix}{name}");
            every_key(inner, &format!("{key}."), keys);
            keys.push(key);
        }
    }
}

fn put_below(table: &mut Table, parts: &[&str], last: &str, value: Value) -> Result<()> {
    let Some((first, rest)) = parts.split_first() else {
        table.insert(last.to_owned(), value);
        return Ok(());
    };
    let inner = table
        .entry(first.to_string())
        .or_insert_with(|| Value::Table(Table::new()));
    match inner {
        Value::Table(inner) => put_below(inner, rest, last, value),
        Value::Array(items) => {
            let (at, rest) = rest
                .split_first()
                .map_or((last, None), |(at, rest)| (*at, Some(rest)));
            let item = at
                .parse::<usize>()
                .ok()
                .and_then(|index| items.get_mut(index))
                .ok_or_else(|| Error::input(format!("{first} has no entry {at}")))?;
            match (rest, item) {
                (None, item) => {
                    *item = value;
                    Ok(())
                }
                (Some(rest), Value::Table(inner)) => put_below(inner, rest, last, value),
                (Some(_), _) => Err(Error::input(format!("{first}.{at} is not a table"))),
            }
        }
        other => Err(Error::input(format!(
            "{first} is {}, not a table",
            other.type_str()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_toml_or_text() {
        assert_eq!(parse_value("0.5"), Value::Float(0.5));
        assert_eq!(parse_value("true"), Value::Boolean(true));
        assert_eq!(parse_value("a/b.jsonl"), Value::String("a/b.jsonl".into()));
        assert_eq!(parse_value("[1, 2]").as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn existing_keys_are_set_and_others_name_the_nearest() {
        let known =
            json!({"ppo": {"kl_coef": 0.1}, "reward": [{"use": "sequence", "options": {}}]});
        let mut table: Table = toml::from_str("[[reward]]\nuse = \"sequence\"").unwrap();
        apply(&mut table, &known, "ppo.kl_coef=0.3").unwrap();
        apply(&mut table, &known, "reward.0.options.tokens=all").unwrap();
        assert_eq!(table["ppo"]["kl_coef"].as_float(), Some(0.3));
        assert_eq!(
            table["reward"][0]["options"]["tokens"].as_str(),
            Some("all")
        );
        let error = apply(&mut table, &known, "ppo.kl_coeff=1").unwrap_err();
        assert_eq!(error.hint_text(), Some("did you mean ppo.kl_coef?"));
        assert_eq!(error.exit_code(), 2);
        assert!(apply(&mut table, &known, "reward.3.use=x").is_err());
        assert!(apply(&mut table, &known, "ppo").is_err());
    }
}
