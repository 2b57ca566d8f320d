//! Plans of whole runs.

use super::*;

/// The paper's sizes: prompts of 192 and responses of 300 tokens.
fn question(text: &str, kind: DeviceKind) -> Question {
    let text = format!(
        "task = \"edit-pairs\"\npreferences = \"edits\"\nmodel = {{ path = \"x\" {text}\n\
         data = {{ path = \"x\", original_field = \"a\", edited_field = \"b\", prompt_words = 3 }}\n\
         annotator = {{ use = \"reward-model\" }}\njudge = {{ use = \"reward-model\" }}\n\
         pairs = {{ sampling = {{ max_new_tokens = 300 }} }}\n\
         evaluation = {{ sampling = {{ max_new_tokens = 300 }} }}\n"
    );
    let dtype = match kind {
        DeviceKind::Cuda => Dtype::Bf16,
        DeviceKind::Cpu => Dtype::F32,
    };
    Question::new(
        Config::from_toml(&text).unwrap(),
        llama_7b(),
        Needs {
            critic: true,
            reward_models: vec![true],
        },
        machine(kind, dtype),
        Limits {
            prompt: Some(192),
            response: Some(300),
        },
    )
    .unwrap()
}

#[test]
fn adapters_that_a_family_has_no_place_for_are_refused_before_anything_is_planned() {
    let text = "task = \"sandbox\"\nmodel = { lora = { targets = [\"q_proj\"] } }\n";
    let model = CausalLmConfig {
        family: Family::Phi3,
        ..tiny()
    };
    let needs = Needs {
        critic: true,
        reward_models: vec![true],
    };
    let machine = machine(DeviceKind::Cpu, Dtype::F32);
    let config = Config::from_toml(text).unwrap();
    let asked = Question::new(config, model, needs, machine, Limits::default());
    let error = asked.expect_err("a part of a map").to_string();
    assert!(
        error.contains("model: lora.targets: q_proj is named and k_proj is not"),
        "{error}"
    );
}

const PPO: &str =
    "ppo = { rollout_rows = 128, minibatch_rows = 64, sampling = { max_new_tokens = 300 } }";

fn phase<'a>(plan: &'a MemoryPlan, name: &str) -> &'a Phase {
    let found = plan.phases.iter().find(|phase| phase.name() == name);
    found.unwrap_or_else(|| panic!("no {name} in {:?}", plan.phases))
}

#[test]
fn seven_billion_parameters_with_adapters_fit_80_gb() {
    let asked = question(
        &format!(", lora = {{ rank = 8 }} }}\n{PPO}"),
        DeviceKind::Cuda,
    );
    let plan = plan(&asked).unwrap();
    assert!(
        plan.fits == Some(true) && plan.peak < 80_000_000_000,
        "{}",
        plan.peak
    );
    let (base, adapter) = (2 * 6_738_415_616, 19_988_480);
    let sampling = phase(&plan, "ppo: sampling");
    // Reference, reward model and judge frozen, policy and critic trained; four bytes for each value of the three heads. The
    // best policy so far lies on the host.
    assert_eq!(
        sampling.parts.parameters,
        base + (3 * 2 + 2 * 6) * adapter + 3 * 4 * 4097
    );
    assert_eq!(sampling.parts.kv_cache, 83 * 492 * 32 * 2 * 4096 * 2);
    let update = phase(&plan, "ppo: update");
    assert_eq!(update.parts.optimizer, 2 * 8 * adapter + 8 * 4097);
    assert_eq!(update.parts.kv_cache, 0);
    // A micro-batch of 4096 tokens, all of them read: per layer and token 4·4096 + 2·4096 + 4096 + 2·11008 reals.
    let layer = 4096 * (2 * (4096 + 2 * 4096 + 2 * 4096 + 4096 + 2 * 11_008) + 4 * 32);
    assert!(update.parts.activations > 32 * layer && update.parts.activations < 34 * layer);
    for phase in &plan.phases {
        assert_eq!(phase.peak, phase.parts.total());
        assert!(phase.peak <= plan.peak);
    }
}

#[test]
fn merged_adapters_stand_on_weights_of_their_own() {
    let lora = ", lora = { rank = 8 }, merge_adapters = true }";
    let asked = question(&format!("{lora}\n{PPO}"), DeviceKind::Cuda);
    let plan = plan(&asked).unwrap();
    let base = 2 * 6_738_415_616_u64;
    // SFT's, the reward model's and the judge's.
    let weights = phase(&plan, "ppo: update").parts.parameters;
    assert!(
        weights > 3 * base && weights < 3 * base + (1 << 30),
        "{weights}"
    );
    let weights = phase(&plan, "evaluation: judging").parts.parameters;
    assert!(
        weights >= 3 * base && weights < 3 * base + (1 << 20),
        "{weights}"
    );
}

#[test]
fn passes_that_are_kept_for_the_first_update_are_alive_together() {
    let with = |minibatch: usize| {
        let ppo = format!(
            "ppo = {{ rollout_rows = 8, minibatch_rows = {minibatch}, micro_batch_tokens = 0, sampling = {{ max_new_tokens = 300 }} }}"
        );
        let asked = question(
            &format!(", lora = {{ rank = 8 }} }}\n{ppo}"),
            DeviceKind::Cuda,
        );
        let plan = plan(&asked).unwrap();
        let of = |name: &str| phase(&plan, name).parts.activations;
        (of("ppo: measuring"), of("ppo: update"))
    };
    let ((alone, half), (kept, whole)) = (with(4), with(8));
    // Twice the tokens, of two models: about four times.
    assert!(whole > 7 * half / 2 && whole < 4 * half, "{half} {whole}");
    assert!(kept > 20 * alone, "{alone} {kept}");
}

#[test]
fn on_the_cpu_buffers_wait_and_the_best_policy_is_there() {
    let plan = plan(&question(&format!("}}\n{PPO}"), DeviceKind::Cpu)).unwrap();
    let (sampling, update) = (phase(&plan, "ppo: sampling"), phase(&plan, "ppo: update"));
    assert!(sampling.parts.activations > update.parts.activations);
    let models = [
        "reference",
        "policy",
        "reward model",
        "critic",
        "judge",
        "best",
    ];
    assert_eq!(update.models.len(), models.len(), "{:?}", update.models);
    assert_eq!(update.parts.parameters / (4 * 6_738_415_616), 6);
    // The copy that samples.
    assert_eq!(sampling.parts.parameters / (4 * 6_738_415_616), 7);
}

#[test]
fn remedies_name_settings_and_the_peak_that_they_leave() {
    let asked = question(&format!("}}\n{PPO}"), DeviceKind::Cuda);
    let found = plan(&asked).unwrap();
    assert_eq!(found.fits, Some(false));
    let lora = found
        .remedies
        .iter()
        .find(|remedy| remedy.set == ["model.lora={ rank = 8 }"])
        .unwrap();
    let with = question(
        &format!(", lora = {{ rank = 8 }} }}\n{PPO}"),
        DeviceKind::Cuda,
    );
    assert_eq!(lora.peak, plan(&with).unwrap().peak);
    assert!(lora.fits && lora.changes_results);
    assert_eq!(lora.typed(), "--set 'model.lora={ rank = 8 }'");

    // 24 GB: adapters alone are too much, with 4096 tokens at once.
    let mut small = asked.clone();
    small.machine.memory = Some(24_000_000_000);
    let found = plan(&small).unwrap();
    let last = found.remedies.last().unwrap();
    assert!(last.fits && last.set.len() > 1, "{last:?}");
    assert!(
        found.remedies[..found.remedies.len() - 1]
            .iter()
            .all(|remedy| !remedy.fits)
    );

    // Activations: fewer tokens at once, and nothing that changes results.
    let ppo = PPO.replace("64", "64, micro_batch_tokens = 0");
    let large = question(
        &format!(", lora = {{ rank = 8 }} }}\n{ppo}"),
        DeviceKind::Cuda,
    );
    let found = plan(&large).unwrap();
    assert_eq!(found.peak_at, "ppo: update");
    let [first, ..] = &found.remedies[..] else {
        panic!("no remedy")
    };
    assert!(
        first.fits && !first.changes_results && first.set[0].starts_with("ppo.micro_batch_tokens=")
    );
}

#[test]
fn what_no_machine_holds_is_refused() {
    let mut asked = question("}\n", DeviceKind::Cuda);
    asked.config.ppo.rollout_rows = usize::MAX;
    let error = plan(&asked).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("beyond any machine"), "{error}");
}

#[test]
fn the_table_keeps_to_its_width_and_says_what_was_assumed() {
    for text in ["}", ", lora = { rank = 8 } }", ", recompute = true }"] {
        for kind in [DeviceKind::Cpu, DeviceKind::Cuda] {
            let plan = plan(&question(&format!("{text}\n"), kind)).unwrap();
            let table = table(&plan, 100);
            for line in table.lines() {
                assert!(line.chars().count() <= 100, "{line}");
            }
            for words in ["ppo: update", "Peak ", "192 + 300", "The most is needed in"] {
                assert!(table.contains(words), "no {words:?} in\n{table}");
            }
        }
    }
}
