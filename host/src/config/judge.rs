//! The sections `[judge]` and `[annotator]`: one judge, or a panel of several.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::types::{PluginChoice, empty_options, in_range};
use crate::error::{Error, Result};

/// A judge: a plugin, the host's own `reward-model`, which is trained on the `judge` split of the edit pairs, or `panel`: several
/// judges whose preferences are averaged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeConfig {
    /// The judge plugin's name, `reward-model`, or `panel`.
    #[serde(rename = "use")]
    pub plugin: String,
    /// The plugin's own options.
    pub options: serde_json::Value,
    /// For `panel`: the judges, two or more, each with `use` (a judge plugin's name or `reward-model`), `options` and, where two
    /// would be called the same, a `name` for tables.
    pub panel: Vec<PanelMember>,
    /// For `reward-model`: the scheme that trains it.
    pub scheme: PluginChoice,
    /// The largest share of comparisons on which the judge, or any judge of a panel, may fail in an evaluation. Above it the run
    /// ends; the same command asks again for what failed.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_failed: f64,
}

/// A judge of a panel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PanelMember {
    /// The judge plugin's name, or `reward-model`.
    #[serde(rename = "use")]
    pub plugin: String,
    /// The plugin's own options.
    #[serde(default = "empty_options")]
    pub options: serde_json::Value,
    /// What tables call it; the plugin's name where it is empty.
    #[serde(default)]
    pub name: String,
}

impl PanelMember {
    /// What tables call it.
    fn title(&self) -> &str {
        if self.name.is_empty() {
            &self.plugin
        } else {
            &self.name
        }
    }
}

/// A judge that is asked: the only one, or one of a panel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SingleJudge<'a> {
    /// What tables call it; no other judge of the panel is called so.
    pub name: &'a str,
    /// The plugin's name, or `reward-model`.
    pub plugin: &'a str,
    /// The plugin's own options.
    pub options: &'a serde_json::Value,
}

impl SingleJudge<'_> {
    /// Whether this is the host's own judge.
    pub fn is_reward_model(&self) -> bool {
        self.plugin == REWARD_MODEL_JUDGE
    }
}

/// The name under which the host's own judge is asked for.
const REWARD_MODEL_JUDGE: &str = "reward-model";

/// The name under which several judges are asked for. The host's own judges stand under `use`, so that a file which builds on
/// another says with one key that a panel takes the place of that one's judge, and no key is read past.
const PANEL: &str = "panel";

impl Default for JudgeConfig {
    fn default() -> Self {
        Self {
            plugin: "rubric".into(),
            options: empty_options(),
            panel: Vec::new(),
            scheme: PluginChoice {
                plugin: "token-average".into(),
                options: empty_options(),
            },
            max_failed: 0.05,
        }
    }
}

impl JudgeConfig {
    /// Whether several judges are asked.
    pub fn is_panel(&self) -> bool {
        self.plugin == PANEL
    }

    /// The judges that are asked: one, or those of the panel.
    pub fn members(&self) -> Vec<SingleJudge<'_>> {
        if !self.is_panel() {
            return vec![SingleJudge {
                name: &self.plugin,
                plugin: &self.plugin,
                options: &self.options,
            }];
        }
        self.panel
            .iter()
            .map(|member| SingleJudge {
                name: member.title(),
                plugin: &member.plugin,
                options: &member.options,
            })
            .collect()
    }

    /// Whether every judge is the host's own.
    pub fn is_reward_model(&self) -> bool {
        self.members().iter().all(SingleJudge::is_reward_model)
    }

    /// Whether the host's own judge is asked, alone or in a panel.
    pub fn asks_reward_model(&self) -> bool {
        self.members().iter().any(SingleJudge::is_reward_model)
    }

    /// Who judges, for titles: the judge's name, or `a panel of a and b`.
    pub fn title(&self) -> String {
        let members = self.members();
        let names: Vec<&str> = members.iter().map(|member| member.name).collect();
        match names.split_last() {
            Some((last, others)) if self.is_panel() => {
                format!("a panel of {} and {last}", others.join(", "))
            }
            _ => self.plugin.clone(),
        }
    }

    /// Refuses a share that is none, and a panel that is none. `section` is `judge` or `annotator`.
    ///
    /// # Errors
    /// In words, with the key.
    pub fn validate(&self, section: &str) -> Result<()> {
        in_range(&format!("{section}.max_failed"), self.max_failed, 0.0, 1.0)?;
        if !self.is_panel() {
            if self.panel.is_empty() {
                return Ok(());
            }
            return Err(Error::input(format!(
                "{section}.panel: {} judges are named, and {section}.use is {:?}, which would judge alone",
                self.panel.len(),
                self.plugin
            ))
            .hint(format!("{section}.use = \"panel\" asks all of them")));
        }
        if self.panel.len() < 2 {
            return Err(Error::input(format!(
                "{section}.panel: {} judges are named; accepted with {section}.use = \"panel\": two or more",
                self.panel.len()
            ))
            .hint(format!(
                "{section}.panel = [{{ use = \"…\", options = {{}} }}, {{ use = \"…\" }}]"
            )));
        }
        if self.options != empty_options() {
            return Err(Error::input(format!(
                "{section}.options: a panel has none; accepted: the options of each judge in {section}.panel"
            )));
        }
        let mut names = BTreeSet::new();
        for (at, member) in self.panel.iter().enumerate() {
            if member.plugin == PANEL {
                return Err(Error::input(format!(
                    "{section}.panel.{at}.use: a panel has no panels in it; accepted: a judge plugin's name, or reward-model"
                )));
            }
            if member.name == PANEL {
                return Err(Error::input(format!(
                    "{section}.panel.{at}.name: {PANEL:?} is what tables call all of them together"
                ))
                .hint("give the judge another name"));
            }
            if !names.insert(member.title()) {
                return Err(Error::input(format!(
                    "{section}.panel.{at}: a second judge is called {:?}",
                    member.title()
                ))
                .hint("give one of them a name of its own: name = \"…\""));
            }
        }
        let models = self.members();
        if models
            .iter()
            .filter(|member| member.is_reward_model())
            .count()
            > 1
        {
            return Err(Error::input(format!(
                "{section}.panel: reward-model is named twice, and there is one such model in a run"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(members: &[(&str, &str)]) -> JudgeConfig {
        let member = |&(plugin, name): &(&str, &str)| PanelMember {
            plugin: plugin.into(),
            options: empty_options(),
            name: name.into(),
        };
        JudgeConfig {
            plugin: PANEL.into(),
            panel: members.iter().map(member).collect(),
            ..JudgeConfig::default()
        }
    }

    #[test]
    fn one_judge_is_its_only_member() {
        let judge = JudgeConfig::default();
        let members = judge.members();
        assert_eq!((members.len(), members[0].name), (1, "rubric"));
        assert_eq!(judge.title(), "rubric");
        assert!(judge.validate("judge").is_ok());
    }

    #[test]
    fn a_panel_has_its_members_under_their_names() {
        let judge = panel(&[("claude", ""), ("openai", "small"), ("reward-model", "")]);
        judge.validate("judge").unwrap();
        let names: Vec<&str> = judge.members().iter().map(|member| member.name).collect();
        assert_eq!(names, ["claude", "small", "reward-model"]);
        assert_eq!(judge.title(), "a panel of claude, small and reward-model");
        assert!(judge.asks_reward_model() && !judge.is_reward_model());
    }

    #[test]
    fn what_is_no_panel_is_refused_with_its_key() {
        let mut alone = panel(&[("claude", ""), ("openai", "")]);
        alone.plugin = "claude".into();
        let mut options = panel(&[("claude", ""), ("openai", "")]);
        options.options = serde_json::json!({"model": "m"});
        for (judge, words) in [
            (alone, "judge.use is \"claude\""),
            (panel(&[("claude", "")]), "judge.panel: 1 judges are named"),
            (options, "judge.options: a panel has none"),
            (
                panel(&[("claude", ""), ("claude", "")]),
                "judge.panel.1: a second judge is called \"claude\"",
            ),
            (
                panel(&[("claude", ""), ("openai", "panel")]),
                "judge.panel.1.name: \"panel\" is what tables call",
            ),
            (
                panel(&[("claude", ""), ("panel", "p")]),
                "judge.panel.1.use: a panel has no panels",
            ),
            (
                panel(&[("reward-model", "a"), ("reward-model", "b")]),
                "reward-model is named twice",
            ),
        ] {
            let error = judge.validate("judge").unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
