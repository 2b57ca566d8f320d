//! What one call of an editor or a judge is asked, with stand-ins for texts that no model has written yet.

use std::cell::RefCell;
use std::path::Path;

use finegrain_sdk::kinds::{Comparisons, EditRequests, Verdict};
use finegrain_sdk::{CallContext, Forecast};

use crate::config::Config;
use crate::data::jsonl;
use crate::data::ragged::TextVec;
use crate::data::records::{Pair, PromptRecord};
use crate::error::Result;
use crate::eval::{Contest, Judge, judge_both_orders};
use crate::pipeline::stages::data::AskedRows;
use crate::pipeline::stages::pairs::ranked;
use crate::pipeline::stages::{HELD_OUT_PAIRS, PAIRS};
use crate::plugins::JudgeInstance;

/// A word of a stand-in: a token of most vocabularies, and long for one.
const WORD: &str = " word";

/// A prompt and two responses to it, or one.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    id: String,
    prompt: String,
    response: String,
    other: String,
}

/// The calls of a run whose rows are known.
pub(super) struct Calls<'a> {
    rows: &'a AskedRows,
}

impl<'a> Calls<'a> {
    pub(super) fn new(rows: &'a AskedRows) -> Self {
        Self { rows }
    }

    /// What the annotator ranks: two samples for every prompt, none of which is there.
    pub(super) fn ranking(&self, config: &Config) -> (u64, [Vec<Texts>; 2]) {
        let (prompts, _) = ranked(config, self.rows.reward_prompts.clone());
        (
            1,
            unwritten(&prompts, &[], config.pairs.sampling.max_new_tokens),
        )
    }

    /// What the judge compares at the steps of PPO that evaluate.
    pub(super) fn while_training(&self, config: &Config) -> (u64, [Vec<Texts>; 2]) {
        let watched = config.evaluation.prompts_while_training;
        let prompts = &self.rows.reward_prompts;
        let prompts = &prompts[..prompts.len().min(watched)];
        let longest = config.evaluation.sampling.max_new_tokens;
        (evaluations(config), unwritten(prompts, &[], longest))
    }

    /// What the judge compares at the end.
    pub(super) fn evaluation(&self, config: &Config) -> (u64, [Vec<Texts>; 2]) {
        let longest = config.evaluation.sampling.max_new_tokens;
        let rows = self.rows;
        (1, unwritten(&rows.eval_prompts, &rows.references, longest))
    }

    /// What the editor is asked, in a call for the pairs to train on and one for those held out: the rejected responses of a
    /// file or of the folder `pairs`, stand-ins where neither has them.
    pub(super) fn edits(
        &self,
        config: &Config,
        pairs: &Path,
        forecast: &dyn Fn(&EditRequests<'_>) -> Result<Option<Forecast>>,
    ) -> Result<Vec<Option<Forecast>>> {
        if config.task.ranks_samples() && !pairs.join(PAIRS).is_file() {
            let (mut trained, count) = ranked(config, self.rows.reward_prompts.clone());
            let held_out = trained.split_off(count);
            let longest = config.pairs.sampling.max_new_tokens;
            let parts = [trained, held_out]
                .into_iter()
                .filter(|part| !part.is_empty());
            let foreseen = parts.map(|prompts| {
                let [low, high] = unwritten(&prompts, &[], longest);
                Ok(between(edited(&low, forecast)?, edited(&high, forecast)?))
            });
            return foreseen.collect();
        }
        let parts = if config.task.ranks_samples() {
            [PAIRS, HELD_OUT_PAIRS]
                .into_iter()
                .map(|name| jsonl::read(&pairs.join(name)))
                .collect::<Result<Vec<Vec<Pair>>>>()?
        } else {
            self.rows.pairs.to_vec()
        };
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        let foreseen = parts.map(|pairs| {
            let rows: Vec<Texts> = pairs
                .into_iter()
                .map(|pair| Texts {
                    id: pair.id,
                    prompt: pair.prompt,
                    response: pair.rejected,
                    other: String::new(),
                })
                .collect();
            edited(&rows, forecast)
        });
        foreseen.collect()
    }
}

/// How often PPO evaluates: at the start, every so many steps, and at the end.
fn evaluations(config: &Config) -> u64 {
    let (every, steps) = (config.evaluation.every, config.ppo.steps);
    if steps == 0 {
        return 1;
    }
    let between = (steps - 1).checked_div(every).unwrap_or(0);
    2 + between
}

/// Rows with the shortest responses that may be written, and with the longest; `known` are the others' responses, where they
/// are there. No two are alike: equal texts are not asked about.
fn unwritten(prompts: &[PromptRecord], known: &[String], longest: usize) -> [Vec<Texts>; 2] {
    [0, longest].map(|words| {
        let stand_in = |row: usize, side: &str| format!("{side}{row}{}", WORD.repeat(words));
        let rows = prompts.iter().enumerate().map(|(row, prompt)| Texts {
            id: prompt.id.clone(),
            prompt: prompt.prompt.clone(),
            response: stand_in(row, "a"),
            other: known
                .get(row)
                .cloned()
                .unwrap_or_else(|| stand_in(row, "b")),
        });
        rows.collect()
    })
}

/// The forecast of an editor for these rows.
fn edited(
    rows: &[Texts],
    forecast: &dyn Fn(&EditRequests<'_>) -> Result<Option<Forecast>>,
) -> Result<Option<Forecast>> {
    let ids: TextVec = rows.iter().map(|row| &row.id).collect();
    let prompts: TextVec = rows.iter().map(|row| &row.prompt).collect();
    let responses: TextVec = rows.iter().map(|row| &row.response).collect();
    forecast(&EditRequests {
        ids: ids.view(),
        prompts: prompts.view(),
        responses: responses.view(),
    })
}

/// The forecast of a judge for the shortest and the longest responses.
pub(super) fn judged(
    judge: &JudgeInstance,
    [low, high]: &[Vec<Texts>; 2],
    context: &CallContext<'_>,
) -> Result<Option<Forecast>> {
    let of = |rows: &[Texts]| -> Result<Option<Forecast>> {
        let contests: Vec<Contest<'_>> = rows
            .iter()
            .map(|row| Contest {
                id: &row.id,
                prompt: &row.prompt,
                model: &row.response,
                reference: &row.other,
            })
            .collect();
        let foreseer = Foreseer {
            judge,
            forecast: RefCell::new(None),
        };
        judge_both_orders(&foreseer, &contests, context)?;
        Ok(foreseer.forecast.into_inner())
    };
    Ok(between(of(low)?, of(high)?))
}

fn between(low: Option<Forecast>, high: Option<Forecast>) -> Option<Forecast> {
    Some(Forecast::between(&low?, &high?))
}

/// A judge's forecast in the judge's place, so that it is shown the very comparisons that would be asked. Its verdicts are
/// ties, which nobody reads.
struct Foreseer<'a> {
    judge: &'a JudgeInstance,
    forecast: RefCell<Option<Forecast>>,
}

impl Judge for Foreseer<'_> {
    fn name(&self) -> String {
        self.judge.name()
    }

    fn compare(
        &self,
        comparisons: &Comparisons<'_>,
        context: &CallContext<'_>,
    ) -> Result<Vec<(Verdict, String)>> {
        *self.forecast.borrow_mut() = self.judge.forecast(comparisons, context)?;
        Ok(vec![(Verdict::Tie, String::new()); comparisons.ids.rows()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ppo_evaluates_at_both_ends_and_every_so_many_steps_between() {
        let count = |steps, every| {
            let mut config = Config::default();
            config.ppo.steps = steps;
            config.evaluation.every = every;
            evaluations(&config)
        };
        assert_eq!(count(10, 0), 2);
        // 0, 5, 10.
        assert_eq!(count(10, 5), 3);
        // 0, 4, 8, 10.
        assert_eq!(count(10, 4), 4);
        assert_eq!(count(1, 1), 2);
    }

    #[test]
    fn stand_ins_are_a_word_or_as_long_as_may_be_and_never_alike() {
        let prompts: Vec<PromptRecord> = ["p", "q"]
            .map(|id| PromptRecord {
                id: id.into(),
                prompt: "write".into(),
            })
            .into();
        let [low, high] = unwritten(&prompts, &[], 3);
        assert_eq!((&*low[0].response, &*low[0].other), ("a0", "b0"));
        assert_eq!(high[1].response, "a1 word word word");
        let [_, high] = unwritten(&prompts, &["x".into(), "y".into()], 3);
        assert_eq!(high[1].other, "y");
    }
}
