//! Pairs of which it is known which response is preferred, out of one file: what a judge is held against.

use std::collections::HashMap;
use std::path::PathBuf;

use serde_json::Value;

use super::source::{Source, TableRow};
use crate::data::config::FileConfig;
use crate::data::fields::FieldPath;
use crate::data::layouts::Wanted;
use crate::data::records::{Pair, SetAside};
use crate::data::rows::Rows;
use crate::error::{Error, Result};

/// A second file whose rows complete those of the first: prompts that stand apart from the responses to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    /// The file or the folder.
    pub path: PathBuf,
    /// The field whose text or number is the same in both rows.
    pub on: FieldPath,
}

/// The pairs of a file; `chosen` is the response that is known to be preferred.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnownPairs {
    /// The pairs that can be asked about.
    pub pairs: Vec<Pair>,
    /// Rows that are not used: ties in the known preference, rows without one, and what no task uses.
    pub set_aside: Vec<SetAside>,
    /// What the file was taken for, in a sentence.
    pub said: Vec<String>,
}

/// Reads pairs with a known preference. `several_turns` says whether prompts may be conversations.
///
/// # Errors
/// A file that is not read, rows in no known layout, an id that occurs twice, a file of which no row can be used.
pub fn load(file: &FileConfig, join: Option<&Join>, several_turns: bool) -> Result<KnownPairs> {
    let source = Source {
        table: "pairs",
        file,
        wanted: Wanted::Pair,
        group_field: None,
        several_turns,
    };
    let mut known = KnownPairs::default();
    let mut rows = Rows::read(&file.path, file.max_rows)?;
    if let Some(join) = join {
        complete(&mut rows, join)?;
    }
    let read = source.of_rows(&rows, &mut known.said, &mut known.set_aside)?;
    known.pairs = read.into_iter().map(TableRow::pair).collect();
    Ok(known)
}

/// Gives every row the keys that it lacks from the row of the other file with the same value in `join.on`.
fn complete(rows: &mut Rows, join: &Join) -> Result<()> {
    let others = Rows::read(&join.path, None)?;
    let mut by_name: HashMap<String, &Value> = HashMap::new();
    for row in &others.rows {
        let place = others.place(row);
        let name = join
            .on
            .name(&row.values)
            .map_err(|found| Error::input(format!("{place}: {found}")))?;
        if by_name.insert(name.clone(), &row.values).is_some() {
            return Err(Error::input(format!(
                "{place}: a second row has `{name}` in `{}`; accepted: every value once",
                join.on
            )));
        }
    }
    let mut missed = None;
    for at in 0..rows.rows.len() {
        let found = join.on.name(&rows.rows[at].values);
        let name = found
            .map_err(|found| Error::input(format!("{}: {found}", rows.place(&rows.rows[at]))))?;
        let Some(other) = by_name.get(&name).and_then(|values| values.as_object()) else {
            missed.get_or_insert(name);
            continue;
        };
        if let Value::Object(own) = &mut rows.rows[at].values {
            for (key, value) in other {
                own.entry(key).or_insert_with(|| value.clone());
            }
        }
    }
    match missed {
        // A row that lacks its prompt is set aside by the layout, with the key; a file that fits none is the wrong file.
        Some(name)
            if rows
                .rows
                .iter()
                .all(|row| !fits(&row.values, &by_name, &join.on)) =>
        {
            Err(Error::input(format!(
                "{}: no row has a value in `{}` that the other file has, such as `{name}`",
                join.path.display(),
                join.on
            )))
        }
        _ => Ok(()),
    }
}

fn fits(row: &Value, by_name: &HashMap<String, &Value>, on: &FieldPath) -> bool {
    on.name(row).is_ok_and(|name| by_name.contains_key(&name))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::data::records::SetAsideReason;

    /// A file with these paths of prompt, both responses, preference.
    fn mapped(path: PathBuf, [prompt, first, second, preference]: [&str; 4]) -> FileConfig {
        FileConfig {
            path,
            prompt_field: Some(FieldPath::new(prompt)),
            first_field: Some(FieldPath::new(first)),
            second_field: Some(FieldPath::new(second)),
            preference_field: Some(FieldPath::new(preference)),
            ..FileConfig::default()
        }
    }

    fn reasons(known: &KnownPairs) -> Vec<SetAsideReason> {
        known.set_aside.iter().map(|row| row.reason).collect()
    }

    #[test]
    fn prompts_of_another_file_are_put_to_their_responses_and_ties_are_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let (prompts, rows) = (dir.path().join("p.jsonl"), dir.path().join("r.jsonl"));
        let text = "{\"id\": 1, \"instruction\": \"a?\", \"old\": \"x\"}\n{\"id\": 2, \"instruction\": \"b?\", \"old\": \"y\"}\n";
        fs::write(&prompts, text).unwrap();
        let text = "{\"id\": 1, \"new\": \"z\", \"best\": 2}\n{\"id\": 2, \"new\": \"z\", \"best\": 1.5}\n\
                    {\"id\": 1, \"new\": \"w\", \"best\": 1}\n{\"id\": 3, \"new\": \"w\", \"best\": 1}\n";
        fs::write(&rows, text).unwrap();
        let file = mapped(rows, ["instruction", "old", "new", "best"]);
        let mut join = Join {
            path: prompts,
            on: FieldPath::new("id"),
        };
        let known = load(&file, Some(&join), false).unwrap();
        let pairs: Vec<_> = known
            .pairs
            .iter()
            .map(|pair| (&*pair.prompt, &*pair.chosen, &*pair.rejected))
            .collect();
        assert_eq!(pairs, [("a?", "z", "x"), ("a?", "x", "w")]);
        let expected = [SetAsideReason::Tie, SetAsideReason::MissingField];
        assert_eq!(reasons(&known), expected);

        // Without the other file there is no prompt; with one of other ids, it is named.
        let alone = load(&file, None, false).unwrap_err().to_string();
        assert!(alone.contains("none of 4 rows can be used"), "{alone}");
        join.path = dir.path().join("q.jsonl");
        fs::write(&join.path, "{\"id\": 7, \"instruction\": \"c?\"}\n").unwrap();
        let wrong = load(&file, Some(&join), false).unwrap_err().to_string();
        assert!(
            wrong.contains("q.jsonl: no row has a value in `id`"),
            "{wrong}"
        );
        fs::write(&join.path, "{\"id\": 7}\n{\"id\": 7}\n").unwrap();
        let twice = load(&file, Some(&join), false).unwrap_err().to_string();
        assert!(twice.contains("q.jsonl:2: a second row has `7`"), "{twice}");
    }

    /// The file of a shared data set; `None` where it is not there, with the reason printed.
    #[expect(clippy::print_stderr, reason = "a test says why it skips")]
    fn shared(name: &str) -> Option<PathBuf> {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
        let path = data.join(name);
        if !path.is_file() {
            eprintln!("skipped: no {}", path.display());
            return None;
        }
        Some(path)
    }

    #[test]
    fn peoples_preferences_between_answers_of_qa_feedback_are_read_by_fields() {
        let Some(path) = shared("qa_feedback/dev_feedback.jsonl") else {
            return;
        };
        let file = mapped(
            path,
            ["question", "prediction 1", "prediction 2", "preference.0"],
        );
        let known = load(&file, None, false).unwrap();
        assert!(known.pairs.len() > 100, "{}", known.said[0]);
        let ties = reasons(&known);
        assert!(ties.contains(&SetAsideReason::Tie), "0 is a tie");
    }

    #[test]
    fn gpt_4s_preferences_of_alpaca_eval_are_read_with_their_prompts() {
        let (Some(path), Some(prompts)) = (
            shared("alpacaeval_davinci003/outputs_prefs.jsonl"),
            shared("alpacaeval_davinci003/prompts.jsonl"),
        ) else {
            return;
        };
        let file = mapped(
            path,
            ["instruction", "output_davinci003", "output", "preference"],
        );
        let join = Join {
            path: prompts,
            on: FieldPath::new("id"),
        };
        let known = load(&file, Some(&join), false).unwrap();
        assert!(known.pairs.len() > 5000, "{}", known.said[0]);
    }
}
