//! Figures that were worked out by hand, and figures of a real pass.

use finegrain_sdk::rng::Stream;

use super::activations::Passes;
use super::rows::{MicroBatch, Row};
use super::sampling::Sampling;
use super::sizes::{Role, Sizes};
use super::*;
use crate::config::Config;
use crate::data::ragged::TokenBatch;
use crate::device::{DeviceKind, Dtype};
use crate::model::{
    Gradients, Llama, LlamaConfig, LoraConfig, SamplingWeights, ScalarHead, ScoredModel,
};
use crate::train::batching::micro_batches;

fn llama(sizes: [usize; 7], tied: bool) -> LlamaConfig {
    let [
        vocabulary,
        channels,
        layers,
        heads,
        kv_heads,
        feed_forward,
        positions,
    ] = sizes;
    LlamaConfig {
        vocab_size: vocabulary,
        hidden_size: channels,
        intermediate_size: feed_forward,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: kv_heads,
        head_dim: channels / heads,
        max_position_embeddings: positions,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        tie_word_embeddings: tied,
        bos_token_id: None,
        eos_token_id: Vec::new(),
    }
}

/// V = 10, C = 4, L = 2, H = 2, K = 1, D = 2, F = 3; the head is the table.
fn tiny() -> LlamaConfig {
    llama([10, 4, 2, 2, 1, 3, 8], true)
}

/// Touvron et al. 2023, arXiv:2302.13971, table 2.
fn llama_7b() -> LlamaConfig {
    llama([32_000, 4096, 32, 32, 32, 11_008, 2048], false)
}

fn machine(kind: DeviceKind, dtype: Dtype) -> Machine {
    Machine {
        kind,
        dtype,
        threads: 2,
        memory: Some(80 << 30),
        memory_given: true,
    }
}

const RANK_1: LoraConfig = LoraConfig {
    rank: 1,
    alpha: 1.0,
    targets: Vec::new(),
};

fn all_maps(rank: usize) -> LoraConfig {
    LoraConfig {
        rank,
        ..LoraConfig::default()
    }
}

/// Table 10·4 = 40; matrices of a layer 4·(2·4 + 4 + 3·3) = 84; norms (2·2 + 1)·4 = 20. Adapters of rank 1 in a layer: 8 + 6
/// + 6 + 8 (attention), 7 + 7 + 7.
#[test]
fn parameters_by_hand_and_those_of_a_model() {
    let sizes = Sizes::new(&tiny(), Some(&all_maps(1)));
    assert_eq!(sizes.parameters(), 40 + 2 * 84 + 20);
    assert_eq!(sizes.adapter(), Some(2 * 49));
    assert_eq!(sizes.ranks(), 7);
    assert_eq!(Sizes::new(&tiny(), Some(&RANK_1)).adapter(), Some(0));
    for tied in [true, false] {
        let config = llama([50, 16, 3, 4, 2, 24, 8], tied);
        let lora = all_maps(3);
        let model = Llama::new(config.clone(), &Stream::new(1)).unwrap();
        let adapted = model.with_lora(&lora, &Stream::new(2)).unwrap();
        let sizes = Sizes::new(&config, Some(&lora));
        assert_eq!(sizes.parameters(), model.parameters().len() as u64);
        assert_eq!(sizes.adapter(), Some(adapted.parameters().len() as u64));
    }
    // 6.7 billion: 2·32000·4096 + 32·(4·4096² + 3·4096·11008 + 2·4096) + 4096.
    assert_eq!(Sizes::new(&llama_7b(), None).parameters(), 6_738_415_616);
}

/// 18 bytes a trained value in bf16, 16 in f32; 2 or 4 a frozen one; a head's 5 values are f32.
#[test]
fn roles_by_hand() {
    let roles = [
        Role::frozen("reference"),
        Role::trained("policy"),
        Role::trained("critic").scored(),
    ];
    let bytes = |lora: Option<&LoraConfig>, kind, dtype| {
        Sizes::new(&tiny(), lora).of_roles(&roles, &machine(kind, dtype))
    };
    let found = bytes(None, DeviceKind::Cuda, Dtype::Bf16);
    assert_eq!(found.total(), (2 + 18 + 18) * 228 + 16 * 5);
    assert_eq!(found.parameters, (2 + 6 + 6) * 228 + 4 * 5);
    assert_eq!(found.optimizer, 2 * 8 * 228 + 8 * 5);
    for kind in [DeviceKind::Cuda, DeviceKind::Cpu] {
        let found = bytes(None, kind, Dtype::F32);
        assert_eq!(found.total(), (4 + 16 + 16) * 228 + 16 * 5);
    }
    // A copy of what is trained has both its forms, and no moments.
    let copy = Sizes::new(&tiny(), None).of_roles(
        &[Role::copied("best")],
        &machine(DeviceKind::Cuda, Dtype::Bf16),
    );
    assert_eq!((copy.total(), copy.parameters), (6 * 228, 6 * 228));
    // One base for all; three adapters, two of them trained.
    let found = bytes(Some(&all_maps(1)), DeviceKind::Cuda, Dtype::Bf16);
    assert_eq!(found.total(), 2 * 228 + (2 + 18 + 18) * 98 + 16 * 5);
}

/// Of 6 tokens, 3 read. A layer: 2·(6·4 + 6·(8 + 4 + 6)) + 4·6·2 = 312 bytes, the last one 2·(6·4 + 3·18) + 4·3·2 = 180;
/// inputs 2·2·6·4 = 96; both ends 2·2·3·4 = 48. Back: 2·(6·(3 + 12 + 4 + 4 + 8) + 6·8 + 3·4) = 492.
#[test]
fn activations_by_hand() {
    let sizes = Sizes::new(&tiny(), None);
    let batch = MicroBatch {
        tokens: 6,
        read: 3,
        longest: 3,
    };
    let gpu = machine(DeviceKind::Cuda, Dtype::Bf16);
    let passes = |machine, recompute| Passes {
        sizes: &sizes,
        machine,
        recompute,
    };
    assert_eq!(passes(&gpu, false).kept(batch), 312 + 180 + 96 + 48);
    assert_eq!(passes(&gpu, false).backward(batch), 492);
    assert_eq!(passes(&gpu, true).kept(batch), 96 + 48);
    assert_eq!(passes(&gpu, true).backward(batch), 492 + 312);
    // 2·(6·(12 + 3) + 3·4), a layer, and the last one.
    assert_eq!(passes(&gpu, false).forward(batch), 204 + 312 + 180);
    assert_eq!(passes(&gpu, false).logits(batch, true), 3 * 10 * (4 + 2));
    assert_eq!(passes(&gpu, false).logits(batch, false), 3 * 10 * 4);
    // On the CPU reals have 4 bytes and two layers are under way: a layer 4·132 + 48, the last one 4·78 + 24; back
    // 4·(6·(2·23 + 12) + 6·8 + 3·4).
    let cpu = machine(DeviceKind::Cpu, Dtype::F32);
    assert_eq!(passes(&cpu, false).kept(batch), 576 + 336 + 192 + 96);
    assert_eq!(passes(&cpu, false).backward(batch), 1632);
    assert_eq!(passes(&cpu, true).backward(batch), 1632 + 2 * 576);
    // An adapter of rank 1 on seven maps: two numbers of each a token.
    let adapted = Sizes::new(&tiny(), Some(&all_maps(1)));
    let adapted = Passes {
        sizes: &adapted,
        ..passes(&gpu, false)
    };
    assert_eq!(adapted.backward(batch), 492 + 2 * 6 * 2 * 7);
    // Chunks of logits: 2²⁵ elements; on the CPU 64 rows where 4 MiB are fewer.
    let large = Sizes::new(&llama_7b(), None);
    let many = MicroBatch {
        tokens: 4096,
        read: 4096,
        longest: 492,
    };
    let logits = |machine| {
        Passes {
            sizes: &large,
            ..passes(machine, false)
        }
        .logits(many, true)
    };
    assert_eq!(logits(&gpu), (1 << 25) * 6);
    assert_eq!(logits(&cpu), 64 * 32_000 * 4);
}

/// What the passes of a model ask of their pool of buffers, at most: never more than planned, and not much less. Sizes are
/// powers of two, which the pool does not round up.
#[test]
fn the_plan_covers_what_a_pass_takes() {
    let config = llama([512, 64, 4, 4, 2, 128, 64], true);
    let mut batch = TokenBatch::new();
    for row in 0..16 {
        batch.push(&[row; 32], &[row + 1; 32]);
    }
    for (recompute, lora) in [(false, None), (true, None), (false, Some(all_maps(8)))] {
        let mut backbone = Llama::new(config.clone(), &Stream::new(1)).unwrap();
        if let Some(lora) = &lora {
            backbone = backbone.with_lora(lora, &Stream::new(2)).unwrap();
        }
        backbone.set_recompute(recompute);
        let head = ScalarHead::zero(64).unwrap();
        let model = ScoredModel::new(backbone, head).unwrap();
        let mut gradients = Gradients::zeros(&model).unwrap();
        let pass = model.scores_pass(&batch).unwrap();
        pass.backward(&model, &[1.0; 16 * 32], &mut gradients)
            .unwrap();
        let taken = 4 * model.backbone.most_lent() as u64;

        let sizes = Sizes::new(&config, lora.as_ref());
        let machine = Machine {
            threads: rayon::current_num_threads() as u64,
            ..machine(DeviceKind::Cpu, Dtype::F32)
        };
        let passes = Passes {
            sizes: &sizes,
            machine: &machine,
            recompute,
        };
        let row = Row {
            prompt: 32,
            response: 32,
        };
        let planned = passes.training(MicroBatch::of(16, row, 1, 0));
        assert!(
            taken <= planned && planned as f64 <= 1.25 * taken as f64,
            "recompute {recompute}, {lora:?}: {taken} taken, {planned} planned"
        );
    }
}

/// The same on a GPU, of which the test has all memory for itself: scores have no logits, and gradients are there before. The
/// plan is an upper bound; a layer gives its buffers back as it goes, which the plan does not follow.
#[cfg(feature = "cuda")]
#[test]
fn the_plan_covers_what_a_pass_takes_of_a_gpu() {
    use crate::device::{Device, testing};

    let config = llama([512, 64, 4, 4, 2, 128, 64], true);
    let mut batch = TokenBatch::new();
    for row in 0..16 {
        batch.push(&[row; 32], &[row + 1; 32]);
    }
    for dtype in [Dtype::Bf16, Dtype::F32] {
        let Some(gpu) = testing::own_gpu(dtype) else {
            return;
        };
        for (recompute, lora) in [(false, None), (true, None), (false, Some(all_maps(8)))] {
            let mut backbone = Llama::new(config.clone(), &Stream::new(1)).unwrap();
            if let Some(lora) = &lora {
                backbone = backbone.with_lora(lora, &Stream::new(2)).unwrap();
            }
            backbone.set_recompute(recompute);
            let backbone = backbone.to(&Device::Cuda(gpu.clone())).unwrap();
            let model = ScoredModel::new(backbone, ScalarHead::zero(64).unwrap()).unwrap();
            let mut gradients = Gradients::zeros(&model).unwrap();
            let before = gpu.bytes_in_use();
            gpu.take_peak();
            let pass = model.scores_pass(&batch).unwrap();
            pass.backward(&model, &[1.0; 16 * 32], &mut gradients)
                .unwrap();
            let taken = (gpu.take_peak() - before) as u64;

            let sizes = Sizes::new(&config, lora.as_ref());
            let machine = machine(DeviceKind::Cuda, dtype);
            let passes = Passes {
                sizes: &sizes,
                machine: &machine,
                recompute,
            };
            let row = Row {
                prompt: 32,
                response: 32,
            };
            let planned = passes.training(MicroBatch::of(16, row, 1, 0));
            let ratio = planned as f64 / taken as f64;
            assert!(
                (1.0..=1.5).contains(&ratio),
                "{dtype:?}, recompute {recompute}, {lora:?}: {taken} taken, {planned} planned ({ratio:.3})"
            );
        }
    }
}

/// 5 rows of 3 + 2 tokens on a GPU: keys and values 2·(2·4) bytes a token; a step 5·2·(2·4 + 2·4 + 4 + 3·3); the prompts of
/// 15 tokens before 2·(15·(12 + 3) + 5·4) and a layer, 2·(15·4 + 15·18) + 4·15·2, and the last, 2·(15·4 + 5·18) + 4·5·2.
#[test]
fn sampling_by_hand() {
    let sizes = Sizes::new(&tiny(), None);
    let large = Sizes::new(&llama_7b(), None);
    let sampling = Sampling {
        rows: 5,
        row: Row {
            prompt: 3,
            response: 2,
        },
        weights: SamplingWeights::F32,
    };
    let (gpu, cpu) = (
        machine(DeviceKind::Cuda, Dtype::Bf16),
        machine(DeviceKind::Cpu, Dtype::F32),
    );
    let parts = |machine| {
        sampling.parts(Passes {
            sizes: &sizes,
            machine,
            recompute: false,
        })
    };
    let found = parts(&gpu);
    assert_eq!((found.kv_cache, found.logits), (5 * 5 * 16, 5 * 10 * 4));
    assert_eq!(found.activations, 290 + 490 + 780 + 340);
    assert_eq!(found.parameters, 0);
    // Two workers of 3 rows, room for 32 tokens and a score for each; the copy: 168 + 40 in matrices, 20 in norms.
    let found = parts(&cpu);
    assert_eq!(found.kv_cache, 6 * 32 * (8 + 1) * 4);
    assert_eq!(found.parameters, (168 + 40 + 20) * 4);
    let rounded = Sampling {
        weights: SamplingWeights::Bf16,
        ..sampling
    };
    assert_eq!(rounded.decoder(&sizes).parameters, 208 * 2 + 20 * 4);
    let many = Sampling {
        rows: 4096,
        ..sampling
    };
    assert_eq!(many.at_once(&sizes, &gpu), 512);
    assert_eq!(many.at_once(&sizes, &cpu), 64);
    // Weights that leave the caches: one worker.
    assert_eq!(many.at_once(&large, &cpu), 32);
    // A quarter of 80 GiB over 492 tokens of 32 layers of 2·4096 values of 2 bytes: 83 of them, and a part.
    let long = Sampling {
        row: Row {
            prompt: 192,
            response: 300,
        },
        ..many
    };
    assert_eq!(long.at_once(&large, &gpu), 83);
}

/// No micro-batch that training cuts has more tokens than planned, whatever the rows' lengths.
#[test]
fn micro_batches_stay_within_the_plan() {
    let row = Row {
        prompt: 10,
        response: 20,
    };
    for seed in 0..50_u64 {
        let lengths: Vec<usize> = (0..12)
            .map(|at| 1 + (seed * 7 + at * at * 13 + at * seed) as usize % 30)
            .collect();
        for budget in [0, 1, 29, 30, 64, 100, 1000] {
            let planned = MicroBatch::of(12, row, 1, budget as u64).tokens;
            let cut = micro_batches(&lengths, budget).into_iter();
            let most = cut.map(|rows| lengths[rows].iter().sum::<usize>()).max();
            assert!(most.unwrap() as u64 <= planned, "{lengths:?}, {budget}");
        }
    }
    assert_eq!(MicroBatch::of(12, row, 1, 0).tokens, 360);
    assert_eq!(MicroBatch::of(12, row, 1, 100).tokens, 100);
    // A pair goes whole, however small the budget.
    assert_eq!(MicroBatch::of(12, row, 2, 50).tokens, 60);
    assert_eq!(MicroBatch::of(12, row, 1, 0).read, 240);
}

#[test]
fn limits_that_are_unknown_fill_the_model() {
    let row = |limits: Limits| (limits.of_data(100), limits.of_samples(30, 100));
    let of = |prompt, response| Row { prompt, response };
    assert_eq!(row(Limits::default()), (of(1, 99), of(70, 30)));
    let known = |prompt, response| row(Limits { prompt, response });
    assert_eq!(known(Some(20), None), (of(20, 80), of(20, 30)));
    assert_eq!(known(None, Some(25)), (of(75, 25), of(70, 30)));
    assert_eq!(known(Some(500), Some(500)), (of(99, 1), of(70, 30)));
}

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
    // Reference, reward model and judge frozen, policy and critic trained, the best policy copied; four bytes for each value of the three heads.
    assert_eq!(
        sampling.parts.parameters,
        base + (3 * 2 + 3 * 6) * adapter + 3 * 4 * 4097
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
fn on_the_cpu_buffers_wait_and_the_best_policy_is_a_copy() {
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
