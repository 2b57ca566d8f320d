//! The editor: one repair a response.

use finegrain_rubric::{Prompt, assess, repair};
use finegrain_sdk::info::Capabilities;
use finegrain_sdk::kinds::{EditOutcome, EditRequests, EditSink, Editor};
use finegrain_sdk::rng::Stream;
use finegrain_sdk::schemars::JsonSchema;
use finegrain_sdk::serde::{Deserialize, Serialize};
use finegrain_sdk::{CallContext, Plugin, PluginInfo, Result};

/// There is nothing to set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", deny_unknown_fields, default)]
#[schemars(crate = "finegrain_sdk::schemars")]
pub struct Options {}

/// Repairs responses of the sandbox by its rubric.
pub struct RubricEditor;

impl Plugin for RubricEditor {
    const NAME: &'static str = "rubric";
    type Options = Options;

    fn info() -> PluginInfo {
        PluginInfo {
            summary: "Repairs the defective words of a sandbox response, and no other".to_owned(),
            description: "The sandbox's simulated annotator. A wrong word is replaced, a missing one inserted, a surplus \
                          one deleted; the result has no defect under the rubric. Where several words would do, the \
                          seed and the row's id decide. Works on prompts of the sandbox alone: other prompts fail."
                .to_owned(),
            capabilities: Capabilities {
                deterministic: true,
                network: false,
                ..Capabilities::default()
            },
            examples: vec!["[editor]\nuse = \"rubric\"".to_owned()],
            ..PluginInfo::default()
        }
    }

    fn new(_: Options) -> Result<Self> {
        Ok(Self)
    }
}

impl Editor for RubricEditor {
    fn edit(
        &self,
        requests: &EditRequests<'_>,
        sink: &mut dyn EditSink,
        context: &CallContext<'_>,
    ) -> Result<()> {
        let stream = Stream::new(context.seed);
        let rows = requests.ids.rows();
        for row in 0..rows {
            context.check_cancelled()?;
            // By id and not by step: an edit does not depend on how requests were grouped into calls.
            let key = stream.child(requests.ids.row(row)).seed();
            let outcome = edit(requests.prompts.row(row), requests.responses.row(row), key);
            sink.push(row, outcome)?;
            context.progress(row as u64 + 1, rows as u64);
        }
        Ok(())
    }
}

fn edit(prompt: &str, response: &str, key: u64) -> EditOutcome {
    match prompt.parse::<Prompt>() {
        Err(error) => EditOutcome::Failed(error.to_string()),
        Ok(prompt) if assess(&prompt, response).defects.is_empty() => EditOutcome::Unchanged,
        Ok(prompt) => EditOutcome::Edited(repair(&prompt, response, key)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use finegrain_sdk::TextBatch;

    const PROMPT: &str = "write one point of care from the kind sea to the grand city";

    struct Outcomes(Vec<Option<EditOutcome>>);

    impl EditSink for Outcomes {
        fn push(&mut self, row: usize, outcome: EditOutcome) -> Result<()> {
            assert!(self.0[row].replace(outcome).is_none());
            Ok(())
        }
    }

    fn flat(texts: &[&str]) -> (Vec<u8>, Vec<u64>) {
        let ends = texts.iter().scan(0, |end, text| {
            *end += text.len() as u64;
            Some(*end)
        });
        (
            texts.concat().into_bytes(),
            std::iter::once(0).chain(ends).collect(),
        )
    }

    fn edit_rows(rows: &[(&str, &str, &str)], seed: u64, step: u64) -> Vec<EditOutcome> {
        let columns = [
            flat(&rows.iter().map(|row| row.0).collect::<Vec<_>>()),
            flat(&rows.iter().map(|row| row.1).collect::<Vec<_>>()),
            flat(&rows.iter().map(|row| row.2).collect::<Vec<_>>()),
        ];
        let [ids, prompts, responses] =
            std::array::from_fn(|at| TextBatch::new(&columns[at].0, &columns[at].1).unwrap());
        let mut sink = Outcomes(vec![None; rows.len()]);
        let context = CallContext {
            seed,
            step,
            threads: 1,
            cancel: &AtomicBool::new(false),
            log: &|_, _| {},
            progress: &|_, _| {},
            answers: None,
        };
        RubricEditor
            .edit(
                &EditRequests {
                    ids,
                    prompts,
                    responses,
                },
                &mut sink,
                &context,
            )
            .unwrap();
        sink.0.into_iter().map(Option::unwrap).collect()
    }

    #[test]
    fn defects_are_repaired_and_what_is_right_stays() {
        let good = "first the gentle wave guards a mighty bridge .";
        let outcomes = edit_rows(
            &[
                ("1", PROMPT, good),
                ("2", PROMPT, "first the gentle wave guard a mighty bridge ."),
                ("3", "tell me a joke", good),
                ("4", PROMPT, ""),
            ],
            1,
            0,
        );
        assert_eq!(outcomes[0], EditOutcome::Unchanged);
        assert_eq!(outcomes[1], EditOutcome::Edited(good.to_owned()));
        assert_eq!(
            outcomes[2],
            EditOutcome::Failed(
                "not a prompt of the sandbox: word 1 is `tell`, expected `write`".to_owned()
            )
        );
        let EditOutcome::Edited(text) = &outcomes[3] else {
            panic!("{:?}", outcomes[3]);
        };
        let prompt: Prompt = PROMPT.parse().unwrap();
        assert_eq!(assess(&prompt, text).score, 1.0);
    }

    #[test]
    fn an_edit_depends_on_seed_and_id_and_not_on_the_batch() {
        let alone = edit_rows(&[("7", PROMPT, "")], 1, 0);
        let grouped = edit_rows(&[("6", PROMPT, ""), ("7", PROMPT, "")], 1, 5);
        assert_eq!(grouped[1], alone[0]);
        assert_ne!(grouped[0], grouped[1]);
        assert_ne!(edit_rows(&[("7", PROMPT, "")], 2, 0), alone);
    }
}
