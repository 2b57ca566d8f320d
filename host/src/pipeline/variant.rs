//! One variant under one seed: all stages in order, each found in the store or computed.

use crate::config::{Config, Task};
use crate::error::Result;
use crate::pipeline::Session;
use crate::pipeline::stages::{
    data, edits, evaluate, judge_model, pairs, ppo, reward_model, reward_tests, sft, token_views,
};
use crate::pipeline::store::Artifact;

/// A finished variant: its configuration and the artifact of every stage.
#[derive(Clone, Debug)]
pub struct VariantRun {
    /// The resolved configuration, seed included.
    pub config: Config,
    /// Prompts, demonstrations, edits of a file.
    pub data: Artifact,
    /// The SFT model.
    pub sft: Artifact,
    /// The judge's reward model, where the configuration asks for one.
    pub judge_model: Option<Artifact>,
    /// Preference pairs; the data where they come out of a file.
    pub pairs: Artifact,
    /// Edits of the less preferred responses.
    pub edits: Artifact,
    /// The reward models, one for each scheme that needs one, in the order of `config.reward`.
    pub reward_models: Vec<Option<Artifact>>,
    /// What the reward models can do: accuracy on pairs and edits, localisation.
    pub reward_tests: Vec<Option<Artifact>>,
    /// PPO.
    pub ppo: Artifact,
    /// The policy against the reference.
    pub evaluation: Artifact,
    /// The evaluated responses token by token, where the configuration asks for some.
    pub token_views: Option<Artifact>,
}

impl VariantRun {
    /// Every artifact, in the order of the stages.
    pub fn stages(&self) -> Vec<&Artifact> {
        let mut all = vec![&self.data, &self.sft];
        all.extend(&self.judge_model);
        if self.config.task.ranks_samples() {
            all.push(&self.pairs);
        }
        all.push(&self.edits);
        all.extend(self.reward_models.iter().flatten());
        all.extend(self.reward_tests.iter().flatten());
        all.extend([&self.ppo, &self.evaluation]);
        all.extend(&self.token_views);
        all
    }
}

/// Runs a variant from its data to its evaluation.
pub fn run(session: &Session<'_>, config: &Config) -> Result<VariantRun> {
    let data = data::obtain(session, config)?;
    let sft = sft::obtain(session, config, &data)?;
    let judge_model = judge_model::obtain(session, config, &data, &sft)?;
    let pairs = if config.task.ranks_samples() {
        pairs::obtain(session, config, &data, &sft, judge_model.as_ref())?
    } else {
        data.clone()
    };
    let edits_of = match config.task {
        Task::Sandbox | Task::Preferences => &pairs,
        Task::EditPairs => &data,
    };
    let edits = edits::obtain(session, config, edits_of, &sft)?;
    let mut reward_models = Vec::with_capacity(config.reward.len());
    let mut reward_tests = Vec::with_capacity(config.reward.len());
    for choice in &config.reward {
        let model = reward_model::obtain(session, config, choice, &sft, &pairs, &edits)?;
        let tests = match &model {
            Some(model) => Some(reward_tests::obtain(
                session, config, choice, model, &pairs, &edits,
            )?),
            None => None,
        };
        reward_models.push(model);
        reward_tests.push(tests);
    }
    let ppo = ppo::obtain(
        session,
        config,
        &data,
        &sft,
        &reward_models,
        judge_model.as_ref(),
    )?;
    let evaluation = evaluate::obtain(session, config, &data, &sft, &ppo, judge_model.as_ref())?;
    let token_views =
        token_views::obtain(session, config, &sft, &reward_models, &ppo, &evaluation)?;
    Ok(VariantRun {
        config: config.clone(),
        data,
        sft,
        judge_model,
        pairs,
        edits,
        reward_models,
        reward_tests,
        ppo,
        evaluation,
        token_views,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::data::records::PairSource;
    use crate::data::template::PromptTemplate;
    use crate::device::Device;
    use crate::pipeline::comparison::summarise;
    use crate::pipeline::observer::Show;
    use crate::pipeline::store::Store;
    use crate::plugins::Registry;
    use crate::report::ComparisonResult;

    const TINY: &str = r#"
        preferences = "edits"
        prompt_template = "write {prompt}"
        sandbox = { n_demonstrations = 32, n_reward_prompts = 20, n_ppo_prompts = 8, n_eval_prompts = 8 }
        sft = { epochs = 1 }
        reward_model = { epochs = 1 }
        alignment = { max_changed = 1.0 }
        ppo = { steps = 1, rollout_rows = 8, minibatch_rows = 4 }
        evaluation = { every = 0, prompts_while_training = 4, bootstrap_samples = 100 }
    "#;

    fn session<'a>(store: &Path, cancel: &'a AtomicBool) -> Session<'a> {
        Session::new(
            Store::open(store).unwrap(),
            Registry::built_in().unwrap(),
            cancel,
            1,
            Show::Nothing,
        )
    }

    #[test]
    fn a_reward_model_is_there_where_a_scheme_needs_one_and_told_of_there_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cancel = AtomicBool::new(false);
        let session = session(folder.path(), &cancel);
        let with = |rewards: &[&str]| -> (VariantRun, ComparisonResult) {
            let rewards: Vec<String> = rewards
                .iter()
                .map(|name| format!("[[reward]]\nuse = \"{name}\""))
                .collect();
            let config = Config::from_toml(&format!("{TINY}\n{}", rewards.join("\n"))).unwrap();
            let finished = run(&session, &config).unwrap();
            let result = summarise(&[vec![finished.clone()]], None).unwrap();
            (finished, result)
        };
        // test-fives rewards one token by a rule.
        let (finished, result) = with(&["test-fives"]);
        assert!(finished.reward_models[0].is_none());
        assert_eq!(result.variants[0].trained_on, None);
        assert!(
            result.reward_models.cells.is_empty() && result.reward_models.localisation.is_empty()
        );
        assert_eq!(result.costs[0].seeds[0].value.reward_model_seconds, None);
        let page = crate::report::markdown::render(&result);
        assert!(
            page.contains("no reward model, reward scheme `test-fives`"),
            "{page}"
        );

        let (finished, result) = with(&["sequence", "test-fives"]);
        let model = finished.reward_models[0].as_ref().unwrap();
        assert_eq!(
            reward_model::template(model).unwrap(),
            PromptTemplate::new("write {prompt}").unwrap()
        );
        assert_eq!(result.variants[0].trained_on, Some(PairSource::Edits));
        let [localisation] = &result.reward_models.localisation[..] else {
            panic!("one reward model")
        };
        // Where a mark is on one token of several, a reward at the last one alone ties with nearly all others.
        let of = |figure: &crate::eval::OverSeeds<crate::eval::Localisation>| {
            figure.overall.unwrap().value
        };
        assert!((of(&localisation.of_rewards) - 0.5).abs() < 0.1);
        assert_ne!(of(&localisation.of_rewards), of(&localisation.localisation));
    }

    #[test]
    fn adapters_go_through_all_stages_on_one_base_apart_or_merged() {
        let folder = tempfile::tempdir().unwrap();
        let cancel = AtomicBool::new(false);
        let session = session(folder.path(), &cancel);
        let with = |merge: bool| {
            let model = format!("model = {{ lora = {{ rank = 2 }}, merge_adapters = {merge} }}");
            let tiny = TINY.replace(
                "reward_model = { epochs = 1 }",
                "reward_model = { epochs = 3, learning_rate = 1e-2 }",
            );
            let config = format!("{tiny}\n{model}\n[[reward]]\nuse = \"sequence\"");
            run(&session, &Config::from_toml(&config).unwrap()).unwrap()
        };
        let apart = with(false);
        let reward = apart.reward_models[0].as_ref().unwrap();
        assert!(apart.sft.file("base/model.safetensors").is_file());
        for folder in [
            apart.sft.file("model"),
            reward.file("model"),
            apart.ppo.file("policy"),
        ] {
            assert!(folder.join("adapter_config.json").is_file());
            assert!(!folder.join("model.safetensors").exists());
        }
        let (sft, _) = sft::load(&apart.sft, &Device::Cpu).unwrap();
        let (reward, _) = reward_model::load(reward, &Device::Cpu).unwrap();
        let policy = crate::model::CausalLm::load(&apart.ppo.file("policy")).unwrap();
        assert!(reward.backbone.weights().shares_memory_with(sft.weights()));
        assert!(policy.weights().shares_memory_with(sft.weights()));
        assert_ne!(
            reward.backbone.parameters().values().unwrap(),
            sft.parameters().values().unwrap()
        );

        let merged = with(true);
        for folder in [merged.sft.file("model"), merged.ppo.file("policy")] {
            assert!(folder.join("model.safetensors").is_file());
            assert!(!folder.join("adapter_config.json").exists());
        }
    }
}
