//! What the editors and judges of a comparison would ask of servers, and what that would cost: told by the plugins themselves,
//! which send nothing for it.
//!
//! A plugin is shown the rows that its stage would ask about. Of texts that a model has yet to write there are stand-ins, once
//! of a word and once of the most tokens that a sample may have.

mod calls;
mod describe;

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use finegrain_sdk::context::LogLevel;
use finegrain_sdk::forecast::Bounds;
use finegrain_sdk::{CallContext, Forecast};
use serde::Serialize;

use super::{Plan, PlannedRun};
use crate::config::{Config, JudgeConfig};
use crate::error::Result;
use crate::pipeline::Session;
use crate::pipeline::stages::data::AskedRows;
use calls::Calls;
pub use describe::table;

/// What a plugin would ask of a server in all runs of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct ServerPlan {
    /// What for: `editor`, `judge` or `annotator`.
    pub role: &'static str,
    /// The plugin's id: `editor/claude`.
    pub plugin: String,
    /// How many calls there are: a budget is one call's.
    pub calls: u64,
    /// What the dearest call costs, what earlier runs have paid of it included, in US dollars.
    pub dearest_call_usd: Option<Bounds<f64>>,
    /// The sum over the calls; `None` where the plugin tells nothing.
    pub forecast: Option<Forecast>,
}

/// Everything that a comparison would ask of servers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Servers {
    /// By role, plugin, model and budget.
    pub plugins: Vec<ServerPlan>,
    /// What all of them would cost in US dollars; `None` where a price is not known.
    pub usd: Option<Bounds<f64>>,
}

/// Forecasts what the stages of a plan would ask of servers. Files of data are read; nothing is sent or written.
///
/// # Errors
/// Data that a run could not use, a plugin that is not there or fails.
pub fn forecast(session: &Session<'_>, runs: &[Config], plan: &Plan) -> Result<Servers> {
    let mut foreseen = Foreseen {
        session,
        plan,
        met: BTreeSet::new(),
        rows: HashMap::new(),
        plugins: Vec::new(),
    };
    for (config, run) in runs.iter().zip(&plan.runs) {
        foreseen.run(config, run)?;
    }
    let plugins = foreseen.plugins;
    let zero = Some(Bounds::default());
    let usd = plugins.iter().fold(zero, |sum, plugin| {
        let usd = plugin.forecast.as_ref()?.usd?;
        Some(sum?.plus(usd))
    });
    Ok(Servers { plugins, usd })
}

/// What is foreseen so far.
struct Foreseen<'a> {
    session: &'a Session<'a>,
    plan: &'a Plan,
    /// Stages, and questions of several stages, that are counted.
    met: BTreeSet<String>,
    /// The rows of data stages, by their ids.
    rows: HashMap<String, Rc<AskedRows>>,
    plugins: Vec<ServerPlan>,
}

impl Foreseen<'_> {
    /// Counts what the stages of a run ask that have to be computed and that no run before it shares.
    fn run(&mut self, config: &Config, run: &PlannedRun) -> Result<()> {
        for id in &run.stages {
            let (stage, hash) = id.split_once('/').unwrap_or_default();
            let planned = |it: &&super::PlannedStage| it.stage == stage && it.hash == hash;
            let cached = self
                .plan
                .stages
                .iter()
                .find(planned)
                .is_none_or(|it| it.cached);
            if cached || !self.met.insert(id.clone()) {
                continue;
            }
            match stage {
                "edits" if config.task.has_editor() => self.edits(config, run)?,
                "pairs" => self.judge(config, run, "annotator", &config.annotator, |calls| {
                    calls.ranking(config)
                })?,
                "ppo" => self.judge(config, run, "judge", &config.judge, |calls| {
                    calls.while_training(config)
                })?,
                "evaluate" => self.judge(config, run, "judge", &config.judge, |calls| {
                    calls.evaluation(config)
                })?,
                _ => {}
            }
        }
        Ok(())
    }

    fn edits(&mut self, config: &Config, run: &PlannedRun) -> Result<()> {
        let choice = &config.editor;
        let editor = self
            .session
            .registry
            .editor(&choice.plugin, &choice.options)?;
        if !editor.capabilities().network {
            return Ok(());
        }
        // Answers are kept by what is asked: stages with the same rows ask once, whatever their seeds and alignments.
        let source = if config.task.ranks_samples() {
            "pairs"
        } else {
            "data"
        };
        let source = stage_of(run, source);
        if !self
            .met
            .insert(format!("{} {source}", editor.fingerprint()))
        {
            return Ok(());
        }
        let rows = self.rows(config, run)?;
        let pairs = self.session.store.root().join(source);
        let calls = Calls::new(&rows);
        let forecasts = with_context(self.session, |context| {
            calls.edits(config, &pairs, &|requests| {
                editor.forecast(requests, context)
            })
        })?;
        for forecast in forecasts {
            self.add("editor", editor.identity().id(), 1, forecast);
        }
        Ok(())
    }

    /// Counts what the judges of `choice` are asked, every member of a panel by itself; `contests` says how many calls there are,
    /// and what one is asked.
    fn judge(
        &mut self,
        config: &Config,
        run: &PlannedRun,
        role: &'static str,
        choice: &JudgeConfig,
        contests: impl Fn(&Calls<'_>) -> (u64, [Vec<calls::Texts>; 2]),
    ) -> Result<()> {
        // What the members are shown is the same; it is made once, if anybody asks a server.
        let mut shown = None;
        for member in choice.members() {
            if member.is_reward_model() {
                continue;
            }
            let judge = self.session.registry.judge(member.plugin, member.options)?;
            if !judge.capabilities().network {
                continue;
            }
            let (calls, contests) = match shown.take() {
                Some(shown) => shown,
                None => contests(&Calls::new(&*self.rows(config, run)?)),
            };
            let forecast = with_context(self.session, |context| {
                calls::judged(&judge, &contests, context)
            })?;
            self.add(role, judge.identity().id(), calls, forecast);
            shown = Some((calls, contests));
        }
        Ok(())
    }

    /// The rows of a run's data, which are read once.
    fn rows(&mut self, config: &Config, run: &PlannedRun) -> Result<Rc<AskedRows>> {
        let id = stage_of(run, "data").to_owned();
        if let Some(rows) = self.rows.get(&id) {
            return Ok(Rc::clone(rows));
        }
        let rows = Rc::new(AskedRows::of(config)?);
        self.rows.insert(id, Rc::clone(&rows));
        Ok(rows)
    }

    /// Adds `calls` calls that are alike.
    fn add(&mut self, role: &'static str, plugin: String, calls: u64, forecast: Option<Forecast>) {
        let place = |it: &ServerPlan| {
            let known = it.forecast.as_ref().map(|it| (&it.model, it.budget_usd));
            let new = forecast.as_ref().map(|it| (&it.model, it.budget_usd));
            it.role == role && it.plugin == plugin && known == new
        };
        let one = forecast.as_ref().and_then(call_usd);
        match self.plugins.iter_mut().find(|it| place(it)) {
            Some(known) => {
                known.calls += calls;
                known.dearest_call_usd =
                    known.dearest_call_usd.zip(one).map(|(known, one)| Bounds {
                        from: known.from.max(one.from),
                        to: known.to.max(one.to),
                    });
                if let (Some(sum), Some(forecast)) = (&mut known.forecast, forecast) {
                    add_calls(sum, &forecast, calls);
                }
            }
            None => self.plugins.push(ServerPlan {
                role,
                plugin,
                calls,
                dearest_call_usd: one,
                forecast: forecast.map(|forecast| {
                    let mut sum = Forecast {
                        model: forecast.model.clone(),
                        budget_usd: forecast.budget_usd,
                        spent_usd: forecast.spent_usd.map(|_| 0.0),
                        usd: forecast.usd.map(|_| Bounds::default()),
                        ..Forecast::default()
                    };
                    add_calls(&mut sum, &forecast, calls);
                    sum
                }),
            }),
        }
    }
}

/// What a call costs with what is paid of it already.
fn call_usd(forecast: &Forecast) -> Option<Bounds<f64>> {
    let spent = forecast.spent_usd?;
    Some(forecast.usd?.plus(Bounds {
        from: spent,
        to: spent,
    }))
}

fn add_calls(sum: &mut Forecast, one: &Forecast, calls: u64) {
    let times = |bounds: Bounds<u64>| Bounds {
        from: bounds.from.saturating_mul(calls),
        to: bounds.to.saturating_mul(calls),
    };
    sum.kept += one.kept * calls;
    sum.measured_on += one.measured_on;
    sum.requests = sum.requests.plus(times(one.requests));
    sum.input_tokens = sum.input_tokens.plus(times(one.input_tokens));
    sum.output_tokens = sum.output_tokens.plus(times(one.output_tokens));
    let calls = calls as f64;
    sum.spent_usd = sum
        .spent_usd
        .zip(one.spent_usd)
        .map(|(sum, one)| sum + one * calls);
    sum.usd = sum.usd.zip(one.usd).map(|(sum, one)| {
        sum.plus(Bounds {
            from: one.from * calls,
            to: one.to * calls,
        })
    });
}

/// The id of a run's stage of this name; empty where it has none.
fn stage_of<'a>(run: &'a PlannedRun, name: &str) -> &'a str {
    let of = |id: &&String| id.split_once('/').is_some_and(|(stage, _)| stage == name);
    run.stages.iter().find(of).map_or("", String::as_str)
}

/// Calls a plugin for its forecast: with the answers that are kept, and for nothing else. What it warns of is said once.
fn with_context<T>(
    session: &Session<'_>,
    call: impl FnOnce(&CallContext<'_>) -> Result<T>,
) -> Result<T> {
    let answers = session.store.paid_answers();
    let said = Mutex::new(BTreeSet::new());
    call(&CallContext {
        seed: 0,
        step: 0,
        threads: session.threads as u32,
        cancel: session.cancel,
        log: &|level, text| {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            if level == LogLevel::Warn && said.insert(text.to_owned()) {
                session.say(text);
            }
        },
        progress: &|_, _| {},
        answers: Some(&answers),
    })
}
