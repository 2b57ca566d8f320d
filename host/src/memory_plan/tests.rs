//! Figures that were worked out by hand.

mod measured;
mod runs;

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
    CausalLm, CausalLmConfig, Family, Gradients, LoraConfig, SamplingWeights, ScalarHead,
    ScoredModel, Variant,
};
use crate::train::batching::micro_batches;

fn llama(sizes: [usize; 7], tied: bool) -> CausalLmConfig {
    let [
        vocabulary,
        channels,
        layers,
        heads,
        kv_heads,
        feed_forward,
        positions,
    ] = sizes;
    CausalLmConfig {
        family: Family::Llama,
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
        variant: Variant::default(),
    }
}

/// V = 10, C = 4, L = 2, H = 2, K = 1, D = 2, F = 3; the head is the table.
fn tiny() -> CausalLmConfig {
    llama([10, 4, 2, 2, 1, 3, 8], true)
}

/// Touvron et al. 2023, arXiv:2302.13971, table 2.
fn llama_7b() -> CausalLmConfig {
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
        let model = CausalLm::new(config.clone(), &Stream::new(1)).unwrap();
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
    // One base for all; three adapters, two of them trained.
    let found = bytes(Some(&all_maps(1)), DeviceKind::Cuda, Dtype::Bf16);
    assert_eq!(found.total(), 2 * 228 + (2 + 18 + 18) * 98 + 16 * 5);
}

/// Of 6 tokens, 3 read. A layer: 2·(6·4 + 6·(8 + 4 + 6)) + 4·6·2 = 312 bytes, the last one 2·(6·4 + 3·18) + 4·3·2 = 180;
/// inputs 2·2·6·4 = 96; both ends 2·2·3·4 = 48. Back: 2·(6·(3 + 12 + 4 + 4 + 8) + 6·8 + 3·4) = 492,
/// and where norms are trained 4·6·4 = 96 for the sums of their gradients.
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
    assert_eq!(passes(&gpu, false).backward(batch), 492 + 96);
    assert_eq!(passes(&gpu, true).kept(batch), 96 + 48);
    assert_eq!(passes(&gpu, true).backward(batch), 492 + 96 + 312);
    // 2·(6·(12 + 3) + 3·4), a layer, and the last one.
    assert_eq!(passes(&gpu, false).forward(batch), 204 + 312 + 180);
    assert_eq!(passes(&gpu, false).logits(batch, true), 3 * 10 * (4 + 2));
    assert_eq!(passes(&gpu, false).logits(batch, false), 3 * 10 * 4);
    // On the CPU reals have 4 bytes and two layers are under way: a layer 4·132 + 48, the last one 4·78 + 24; back
    // 4·(6·(2·23 + 12) + 6·8 + 3·4). Two layers laid out by 32 outputs: forwards 4·(4 + 4 + 4 + 4 + 3)·32·2, backwards
    // 4·(4 + 4 + 4 + 6 + 4)·32·2.
    let cpu = machine(DeviceKind::Cpu, Dtype::F32);
    assert_eq!(passes(&cpu, false).kept(batch), 576 + 336 + 192 + 96);
    assert_eq!(passes(&cpu, false).backward(batch), 1632 + 5632);
    assert_eq!(
        passes(&cpu, true).backward(batch),
        1632 + 2 * 576 + 4864 + 5632
    );
    // 4·(6·(12 + 3) + 3·4) and a layer.
    assert_eq!(passes(&cpu, false).forward(batch), 408 + 576 + 4864);
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

/// 5 rows of 3 + 2 tokens on a GPU: keys and values 2·(2·4) bytes a token; a step 5·2·(3·4 + 2·4 + 4 + 3·3); the prompts of
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
    assert_eq!(found.activations, 330 + 490 + 780 + 340);
    assert_eq!(found.parameters, 0);
    // Two workers of 3 rows, room for 32 tokens and two scores for each, and one panel behind the values; the copy:
    // 168 + 40 in matrices, 20 in norms.
    let found = parts(&cpu);
    assert_eq!(found.kv_cache, 6 * (32 * (8 + 2) + 32) * 4);
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

/// The plan's figures of the CUDA passes are theirs; it has them also in a binary without CUDA.
#[cfg(feature = "cuda")]
#[test]
fn limits_of_the_gpu_are_the_passes() {
    let (rows, logits) = crate::model::GPU_LIMITS;
    assert_eq!(super::sampling::GPU_ROWS, rows as u64);
    assert_eq!(super::activations::LOGITS_OF_CHUNK, logits as u64);
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
