//! Tests of the instances, with plugins that break every rule, through the same ABI objects as loaded libraries.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use finegrain_sdk::context::LogLevel;
use finegrain_sdk::kinds::{
    Comparisons, EditOutcome, EditRequests, EditSink, Editor, Judge, JudgeSink, PairGradients,
    RewardScheme, Rollouts, ScoredPairs, ScoredSide, Verdict,
};
use finegrain_sdk::schemars::{self, JsonSchema};
use finegrain_sdk::{CallContext, Plugin, PluginInfo, register};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::data::ragged::{RaggedVec, TextVec};
use crate::error::Error;
use crate::plugins::registry::Registry;

/// Which rule the test plugins break.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Options {
    fault: String,
}

/// A reward scheme, editor and judge in one, wrong in the way that its options name.
struct Wrong(String);

impl Plugin for Wrong {
    const NAME: &'static str = "test-wrong";
    type Options = Options;

    fn info() -> PluginInfo {
        PluginInfo::default()
    }

    fn new(options: Options) -> finegrain_sdk::Result<Self> {
        match options.fault.as_str() {
            "new-refuses" => Err(finegrain_sdk::Error::options("not together")),
            "new-panics" => panic!("in new"),
            _ => Ok(Self(options.fault)),
        }
    }
}

impl RewardScheme for Wrong {
    fn preference_loss(
        &self,
        _: &ScoredPairs<'_>,
        gradients: PairGradients<'_>,
        _: &CallContext<'_>,
    ) -> finegrain_sdk::Result<f64> {
        gradients.chosen.fill(1.0);
        gradients.rejected.fill(-1.0);
        match self.0.as_str() {
            "infinite-gradient" => gradients.rejected[3] = f32::INFINITY,
            "nan-loss" => return Ok(f64::NAN),
            _ => {}
        }
        Ok(0.5)
    }

    fn sequence_reward(
        &self,
        _: &Rollouts<'_>,
        rewards: &mut [f32],
        context: &CallContext<'_>,
    ) -> finegrain_sdk::Result<()> {
        context.log(LogLevel::Warn, "hello");
        assert!(self.0 != "panics", "row {} is odd", 1);
        rewards.fill(2.0);
        if self.0 == "forgets" {
            return Err(finegrain_sdk::Error::plugin("no luck").at_row(1));
        }
        Ok(())
    }

    fn token_rewards(
        &self,
        rollouts: &Rollouts<'_>,
        rewards: &mut [f32],
        _: &CallContext<'_>,
    ) -> finegrain_sdk::Result<()> {
        match self.0.as_str() {
            "forgets" => rewards[rollouts.ids.range(0)].fill(0.0),
            "writes-nan" => rewards.fill(f32::NAN),
            _ => rewards.fill(0.25),
        }
        Ok(())
    }
}

impl Editor for Wrong {
    fn edit(
        &self,
        requests: &EditRequests<'_>,
        sink: &mut dyn EditSink,
        context: &CallContext<'_>,
    ) -> finegrain_sdk::Result<()> {
        sink.push(
            0,
            EditOutcome::Edited(requests.responses.row(0).to_uppercase()),
        )?;
        match self.0.as_str() {
            "forgets" => return Ok(()),
            // The plugin goes on as if nothing had happened.
            "twice" => {
                let _ = sink.push(0, EditOutcome::Unchanged);
            }
            "outside" => {
                let _ = sink.push(7, EditOutcome::Unchanged);
            }
            "cancelled" => context.check_cancelled()?,
            _ => {}
        }
        sink.push(1, EditOutcome::Refused("no".into()))
    }
}

impl Judge for Wrong {
    fn compare(
        &self,
        comparisons: &Comparisons<'_>,
        sink: &mut dyn JudgeSink,
        _: &CallContext<'_>,
    ) -> finegrain_sdk::Result<()> {
        for row in (0..comparisons.ids.rows()).rev() {
            let preference = if self.0 == "outside" { 1.5 } else { 0.75 };
            sink.push(row, Verdict::Preference(preference), "longer")?;
        }
        Ok(())
    }
}

register!(RewardScheme, Wrong);
register!(Editor, Wrong);
register!(Judge, Wrong);

/// A context at step 120 that keeps the log.
fn context<'a>(
    cancel: &'a AtomicBool,
    log: &'a (dyn Fn(LogLevel, &str) + Sync),
) -> CallContext<'a> {
    CallContext {
        seed: 1,
        step: 120,
        threads: 1,
        cancel,
        log,
        progress: &|_, _| {},
        answers: None,
    }
}

fn fault(name: &str) -> serde_json::Value {
    json!({ "fault": name })
}

fn registry() -> Registry {
    Registry::built_in().unwrap()
}

/// Two rollouts of two and three tokens.
fn with_rollouts<R>(call: impl FnOnce(&Rollouts<'_>, &CallContext<'_>) -> R) -> R {
    let scores: RaggedVec<f32> = [vec![0.0; 2], vec![0.0; 3]].into_iter().collect();
    let ids: RaggedVec<u32> = [vec![1; 2], vec![1; 3]].into_iter().collect();
    let prompt_ids: RaggedVec<u32> = [vec![1; 4], vec![1; 1]].into_iter().collect();
    let texts: TextVec = ["a", "ö"].into_iter().collect();
    let rollouts = Rollouts {
        scores: scores.view(),
        ids: ids.view(),
        prompt_ids: prompt_ids.view(),
        prompts: texts.view(),
        responses: texts.view(),
        ended: &[1, 0],
    };
    let cancel = AtomicBool::new(false);
    call(&rollouts, &context(&cancel, &|_, _| {}))
}

fn token_rewards(name: &str) -> Result<Vec<f32>, Error> {
    let scheme = registry().reward("test-wrong", &fault(name)).unwrap();
    with_rollouts(|rollouts, context| scheme.token_rewards(rollouts, context))
}

fn pair_loss(name: &str) -> Result<super::PairLoss, Error> {
    let scheme = registry().reward("test-wrong", &fault(name)).unwrap();
    let scores: RaggedVec<f32> = [vec![0.0; 2], vec![0.0; 3]].into_iter().collect();
    let ids: RaggedVec<u32> = [vec![1; 2], vec![1; 3]].into_iter().collect();
    let changed: RaggedVec<u8> = [vec![1; 2], vec![0; 3]].into_iter().collect();
    let side = ScoredSide {
        scores: scores.view(),
        ids: ids.view(),
        changed: changed.view(),
    };
    let pairs = ScoredPairs {
        chosen: side,
        rejected: side,
    };
    let cancel = AtomicBool::new(false);
    scheme.preference_loss(&pairs, &context(&cancel, &|_, _| {}))
}

fn edit(name: &str, cancel: &AtomicBool) -> Result<Vec<EditOutcome>, Error> {
    let editor = registry().editor("test-wrong", &fault(name)).unwrap();
    let texts: TextVec = ["one", "two"].into_iter().collect();
    let requests = EditRequests {
        ids: texts.view(),
        prompts: texts.view(),
        responses: texts.view(),
    };
    editor.edit_all(&requests, &context(cancel, &|_, _| {}))
}

fn message<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.exit_code(), 4, "{error}");
    error.to_string()
}

#[test]
fn what_a_plugin_writes_comes_back() {
    assert_eq!(token_rewards("").unwrap(), [0.25; 5]);
    let loss = pair_loss("").unwrap();
    assert_eq!((loss.loss, &loss.chosen[..]), (0.5, &[1.0; 5][..]));
    assert_eq!(
        edit("", &AtomicBool::new(false)).unwrap(),
        [
            EditOutcome::Edited("ONE".into()),
            EditOutcome::Refused("no".into())
        ]
    );
}

#[test]
fn unwritten_and_not_finite_outputs_are_refused_with_their_row() {
    assert_eq!(
        message(token_rewards("forgets")),
        "plugin reward/test-wrong (built-in) broke its contract at step 120, row 1: the reward of token 0 was left unwritten"
    );
    assert_eq!(
        message(token_rewards("writes-nan")),
        "plugin reward/test-wrong (built-in) broke its contract at step 120, row 0: the reward of token 0 is NaN, and only finite numbers are accepted"
    );
    assert!(
        message(pair_loss("infinite-gradient"))
            .ends_with("row 1: the gradient by the rejected score of token 1 is inf, and only finite numbers are accepted")
    );
    assert!(message(pair_loss("nan-loss")).contains("step 120: the loss is NaN"));
}

#[test]
fn a_plugins_own_error_names_step_and_row() {
    let scheme = registry().reward("test-wrong", &fault("forgets")).unwrap();
    let result = with_rollouts(|rollouts, context| scheme.sequence_reward(rollouts, context));
    assert_eq!(
        message(result),
        "plugin reward/test-wrong (built-in) failed at step 120, row 1: no luck"
    );
}

#[test]
fn a_panic_is_contained_and_poisons_the_instance() {
    let scheme = registry().reward("test-wrong", &fault("panics")).unwrap();
    let first = message(with_rollouts(|rollouts, context| {
        scheme.sequence_reward(rollouts, context)
    }));
    assert!(
        first.contains("failed at step 120: panicked at "),
        "{first}"
    );
    assert!(first.ends_with("row 1 is odd"), "{first}");
    let second = message(with_rollouts(|rollouts, context| {
        scheme.token_rewards(rollouts, context)
    }));
    assert!(second.ends_with("panicked in an earlier call and is not called again"));
}

#[test]
fn log_lines_carry_the_plugins_id() {
    let scheme = registry().reward("test-wrong", &fault("")).unwrap();
    let lines = Mutex::new(Vec::new());
    let log = |level, line: &str| lines.lock().unwrap().push((level, line.to_owned()));
    with_rollouts(|rollouts, context| {
        let context = CallContext {
            log: &log,
            ..*context
        };
        scheme.sequence_reward(rollouts, &context).unwrap();
    });
    assert_eq!(
        *lines.lock().unwrap(),
        [(LogLevel::Warn, "reward/test-wrong: hello".to_owned())]
    );
}

#[test]
fn a_panicking_log_of_the_host_does_not_end_the_plugins_call() {
    let scheme = registry().reward("test-wrong", &fault("")).unwrap();
    let rewards = with_rollouts(|rollouts, context| {
        let context = CallContext {
            log: &|_, _| panic!("in the host"),
            ..*context
        };
        scheme.sequence_reward(rollouts, &context)
    });
    assert_eq!(rewards.unwrap(), [2.0; 2]);
}

#[test]
fn rows_never_pushed_pushed_twice_or_outside_are_refused() {
    let calm = AtomicBool::new(false);
    assert!(message(edit("forgets", &calm)).ends_with("row 1: 1 of 2 rows were never pushed"));
    assert!(message(edit("twice", &calm)).ends_with("row 0: pushed the row a second time"));
    assert!(
        message(edit("outside", &calm))
            .ends_with("row 7: pushed a row that is not in its batch of 2 rows")
    );
}

#[test]
fn an_interrupted_call_is_no_failure_of_the_plugin() {
    let error = edit("cancelled", &AtomicBool::new(true)).unwrap_err();
    assert_eq!(error.exit_code(), 130);
    assert!(edit("cancelled", &AtomicBool::new(false)).is_ok());
}

#[test]
fn the_hosts_own_error_while_storing_comes_back_as_it_is() {
    let editor = registry().editor("test-wrong", &fault("")).unwrap();
    let texts: TextVec = ["one", "two"].into_iter().collect();
    let requests = EditRequests {
        ids: texts.view(),
        prompts: texts.view(),
        responses: texts.view(),
    };
    let cancel = AtomicBool::new(false);
    let mut stored = 0;
    let error = editor
        .edit(&requests, &context(&cancel, &|_, _| {}), &mut |_, _| {
            stored += 1;
            Err(Error::input("disk full"))
        })
        .unwrap_err();
    assert_eq!((stored, error.to_string().as_str()), (1, "disk full"));
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn judgements_are_ordered_by_row_and_preferences_checked() {
    let texts: TextVec = ["one", "two"].into_iter().collect();
    let comparisons = Comparisons {
        ids: texts.view(),
        prompts: texts.view(),
        a: texts.view(),
        b: texts.view(),
    };
    let cancel = AtomicBool::new(false);
    let context = context(&cancel, &|_, _| {});
    let judge = registry().judge("test-wrong", &fault("")).unwrap();
    let judgements = judge.compare_all(&comparisons, &context).unwrap();
    assert_eq!(judgements[1].verdict, Verdict::Preference(0.75));
    assert_eq!(judgements[0].reason, "longer");
    let judge = registry().judge("test-wrong", &fault("outside")).unwrap();
    assert!(
        message(judge.compare_all(&comparisons, &context))
            .ends_with("row 1: pushed the preference 1.5, which is not in [0, 1]")
    );
}

#[test]
fn a_constructor_may_refuse_or_panic() {
    let refused = registry()
        .reward("test-wrong", &fault("new-refuses"))
        .unwrap_err();
    assert_eq!(refused.exit_code(), 2);
    assert_eq!(
        refused.to_string(),
        "plugin reward/test-wrong (built-in) refused its options: not together"
    );
    let panicked = message(registry().reward("test-wrong", &fault("new-panics")));
    assert!(
        panicked.contains("cannot be made: panicked at "),
        "{panicked}"
    );
}
