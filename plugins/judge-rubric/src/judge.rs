//! The judge: the higher score wins.

use finegrain_rubric::{Prompt, assess};
use finegrain_sdk::info::Capabilities;
use finegrain_sdk::kinds::{Comparisons, Judge, JudgeSink, Verdict};
use finegrain_sdk::schemars::JsonSchema;
use finegrain_sdk::serde::{Deserialize, Serialize};
use finegrain_sdk::{CallContext, Error, Plugin, PluginInfo, Result};

/// When a difference counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", deny_unknown_fields, default)]
#[schemars(crate = "finegrain_sdk::schemars")]
pub struct Options {
    /// Scores that differ by no more than this are a tie; 0 makes only equal scores one. One wrong word of a response of
    /// n words changes its score by about 2 / n.
    #[schemars(range(min = 0.0))]
    pub margin: f64,
}

/// Compares responses of the sandbox by its rubric.
pub struct RubricJudge {
    margin: f64,
}

impl Plugin for RubricJudge {
    const NAME: &'static str = "rubric";
    type Options = Options;

    fn info() -> PluginInfo {
        PluginInfo {
            summary: "Prefers the sandbox response with the higher rubric score".to_owned(),
            description: "The sandbox's simulated judge, without noise: the response with the higher score is better, \
                          scores within the margin tie. The order of the two plays no part. Works on prompts of the \
                          sandbox alone: other prompts fail."
                .to_owned(),
            capabilities: Capabilities {
                deterministic: true,
                network: false,
                ..Capabilities::default()
            },
            examples: vec![
                "[judge]\nuse = \"rubric\"".to_owned(),
                "[judge]\nuse = \"rubric\"\noptions = { margin = 0.1 }".to_owned(),
            ],
            ..PluginInfo::default()
        }
    }

    fn new(options: Options) -> Result<Self> {
        let margin = options.margin;
        if !(margin.is_finite() && margin >= 0.0) {
            return Err(Error::options(format!(
                "margin is {margin}; accepted: a number that is not negative"
            )));
        }
        Ok(Self { margin })
    }
}

impl Judge for RubricJudge {
    fn compare(
        &self,
        comparisons: &Comparisons<'_>,
        sink: &mut dyn JudgeSink,
        context: &CallContext<'_>,
    ) -> Result<()> {
        let rows = comparisons.ids.rows();
        for row in 0..rows {
            context.check_cancelled()?;
            let (verdict, reason) = self.verdict(
                comparisons.prompts.row(row),
                comparisons.a.row(row),
                comparisons.b.row(row),
            );
            sink.push(row, verdict, &reason)?;
            context.progress(row as u64 + 1, rows as u64);
        }
        Ok(())
    }
}

impl RubricJudge {
    fn verdict(&self, prompt: &str, a: &str, b: &str) -> (Verdict, String) {
        let prompt: Prompt = match prompt.parse() {
            Ok(prompt) => prompt,
            Err(error) => return (Verdict::Failed(format!("{error}")), String::new()),
        };
        let (a, b) = (assess(&prompt, a).score, assess(&prompt, b).score);
        let verdict = if (b - a).abs() <= self.margin {
            Verdict::Tie
        } else {
            Verdict::Preference(if b > a { 1.0 } else { 0.0 })
        };
        (verdict, format!("a scores {a:.3}, b scores {b:.3}"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use finegrain_sdk::TextBatch;

    const PROMPT: &str = "write one point of care from the kind sea to the grand city";
    const GOOD: &str = "first the gentle wave guards a mighty bridge .";
    const FAIR: &str = "first the gentle cloud guards a mighty bridge .";

    fn judge(margin: f64) -> RubricJudge {
        RubricJudge::new(Options { margin }).unwrap()
    }

    #[test]
    fn the_higher_score_wins_in_either_order() {
        let reason = |a, b| format!("a scores {a}, b scores {b}");
        assert_eq!(
            judge(0.0).verdict(PROMPT, GOOD, FAIR),
            (Verdict::Preference(0.0), reason("1.000", "0.778"))
        );
        assert_eq!(
            judge(0.0).verdict(PROMPT, FAIR, GOOD),
            (Verdict::Preference(1.0), reason("0.778", "1.000"))
        );
        assert_eq!(judge(0.0).verdict(PROMPT, FAIR, FAIR).0, Verdict::Tie);
    }

    #[test]
    fn scores_within_the_margin_tie() {
        assert_eq!(judge(0.25).verdict(PROMPT, GOOD, FAIR).0, Verdict::Tie);
        assert_eq!(
            judge(0.2).verdict(PROMPT, GOOD, FAIR).0,
            Verdict::Preference(0.0)
        );
        for margin in [-0.1, f64::NAN, f64::INFINITY] {
            assert!(RubricJudge::new(Options { margin }).is_err());
        }
    }

    #[test]
    fn every_row_gets_one_verdict_and_other_prompts_fail() {
        struct Verdicts(Vec<Option<Verdict>>);
        impl JudgeSink for Verdicts {
            fn push(&mut self, row: usize, verdict: Verdict, _: &str) -> Result<()> {
                assert!(self.0[row].replace(verdict).is_none());
                Ok(())
            }
        }
        let column = |texts: [&str; 2]| {
            let ends = [0, texts[0].len(), texts[0].len() + texts[1].len()];
            (texts.concat().into_bytes(), ends.map(|end| end as u64))
        };
        let columns = [["1", "2"], [PROMPT, "a joke"], [GOOD; 2], [FAIR; 2]].map(column);
        let [ids, prompts, a, b] =
            std::array::from_fn(|at| TextBatch::new(&columns[at].0, &columns[at].1).unwrap());
        let mut sink = Verdicts(vec![None; 2]);
        let context = CallContext {
            seed: 1,
            step: 0,
            threads: 1,
            cancel: &AtomicBool::new(false),
            log: &|_, _| {},
            progress: &|_, _| {},
            answers: None,
        };
        let comparisons = Comparisons { ids, prompts, a, b };
        judge(0.0)
            .compare(&comparisons, &mut sink, &context)
            .unwrap();
        assert_eq!(sink.0[0], Some(Verdict::Preference(0.0)));
        assert!(matches!(&sink.0[1], Some(Verdict::Failed(error)) if error.contains("`a`")));
    }
}
