//! The judges that a configuration names: a plugin, a reward model that was trained on a split of its own, or a panel of them.

use std::path::Path;

use serde_json::{Value, json};

use crate::config::{JudgeConfig, SingleJudge};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::eval::reward_judge::RewardJudge;
use crate::eval::{Judge, Panel};
use crate::pipeline::Session;
use crate::pipeline::origins::Recorded;
use crate::pipeline::stages::reward_model;
use crate::pipeline::store::Artifact;
use crate::plugins::{JudgeInstance, RewardInstance};

/// A judge that a configuration has chosen; known by its key before there is a model to open.
enum Chosen<'a> {
    /// A plugin.
    Plugin(JudgeInstance),
    /// A reward model that scores both responses.
    RewardModel {
        /// The artifact that it lies in.
        artifact: &'a Artifact,
        /// The scheme that trained it.
        scheme: RewardInstance,
    },
}

/// Who judges: one judge, or several.
pub struct ChosenJudges<'a> {
    members: Vec<(String, Chosen<'a>)>,
    /// Whether the configuration asks for a panel.
    is_panel: bool,
}

/// What a configuration chooses. `model` is the artifact of the judge's reward model, where the configuration asks for one.
pub fn choose<'a>(
    session: &Session<'_>,
    config: &JudgeConfig,
    model: Option<&'a Artifact>,
) -> Result<ChosenJudges<'a>> {
    let registry = &session.registry;
    let chosen = |member: SingleJudge<'_>| -> Result<(String, Chosen<'a>)> {
        let judge = if member.is_reward_model() {
            Chosen::RewardModel {
                artifact: model
                    .ok_or_else(|| Error::internal("the judge's reward model was not trained"))?,
                scheme: registry.reward(&config.scheme.plugin, &config.scheme.options)?,
            }
        } else {
            Chosen::Plugin(registry.judge(member.plugin, member.options)?)
        };
        Ok((member.name.to_owned(), judge))
    };
    Ok(ChosenJudges {
        members: config
            .members()
            .into_iter()
            .map(chosen)
            .collect::<Result<_>>()?,
        is_panel: config.is_panel(),
    })
}

impl ChosenJudges<'_> {
    /// What identifies them in the keys of stages: of a judge, its instance's fingerprint or, for a reward model, the key of its
    /// training; of a panel, those of all members with their names, under which outcomes are stored.
    pub fn fingerprint(&self) -> Value {
        let of = |judge: &Chosen<'_>| match judge {
            Chosen::Plugin(judge) => judge.fingerprint().clone(),
            Chosen::RewardModel { artifact, .. } => json!({ "reward-model": artifact.key }),
        };
        match self.members.as_slice() {
            [(_, only)] if !self.is_panel => of(only),
            members => {
                let members: Vec<Value> = members
                    .iter()
                    .map(|(name, judge)| json!({ "name": name, "judge": of(judge) }))
                    .collect();
                json!({ "panel": members })
            }
        }
    }

    /// The judges, ready to be asked; a reward model is loaded here, on the device. A plugin that says where its verdicts come
    /// from has that written down in `dir`.
    pub fn open(self, device: &Device, dir: &Path) -> Result<Panel> {
        let open = |name: &str, judge: Chosen<'_>| -> Result<Box<dyn Judge>> {
            Ok(match judge {
                Chosen::Plugin(judge) => Box::new(Recorded::new(name, judge, dir)),
                Chosen::RewardModel { artifact, scheme } => {
                    let (model, tokenizer) = reward_model::load(artifact, device)?;
                    let template = reward_model::template(artifact)?;
                    Box::new(RewardJudge::new(model, tokenizer, template, scheme))
                }
            })
        };
        let members = self.members.into_iter();
        let members = members.map(|(name, judge)| {
            let judge = open(&name, judge)?;
            Ok((name, judge))
        });
        Ok(Panel::new(members.collect::<Result<_>>()?))
    }
}
