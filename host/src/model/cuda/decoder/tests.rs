//! Sampling on a GPU against sampling on the processor.

use std::sync::atomic::AtomicBool;

use finegrain_sdk::rng::Stream;

use super::DeviceDecoder;
use crate::data::ragged::TokenBatch;
use crate::device::{Device, Dtype, testing};
use crate::error::Result;
use crate::model::{CausalLm, Generated, LoraConfig, Sampling, SamplingWeights, fixture, generate};

static GO: AtomicBool = AtomicBool::new(false);

fn prompts(rows: u32) -> Vec<Vec<u32>> {
    (0..rows)
        .map(|row| (0..=row % 9).map(|i| (row * 3 + i * i) % 11).collect())
        .collect()
}

fn adapted() -> Result<CausalLm> {
    let lora = LoraConfig {
        rank: 3,
        ..LoraConfig::default()
    };
    let mut model = fixture::model(true)?.with_lora(&lora, &Stream::new(3))?;
    model.parameters_mut().edit(|values| {
        let changed = values.iter_mut().enumerate();
        changed.for_each(|(at, value)| *value += 0.2 * (at as f32).sin());
        Ok(())
    })?;
    Ok(model)
}

fn run(model: &CausalLm, rows: u32, sampling: &Sampling) -> Result<Vec<Generated>> {
    generate(model, &prompts(rows), sampling, &Stream::new(1), &GO)
}

/// In f32 both draw by the same numbers from the same distributions, but for rounding: the same tokens, unless a draw lies
/// within rounding of the border between two.
#[test]
fn tokens_are_the_processors() -> Result<()> {
    let Some(gpu) = testing::gpu(Dtype::F32) else {
        return Ok(());
    };
    let gpu = Device::Cuda(gpu);
    for model in [fixture::model(true)?, fixture::model(false)?, adapted()?] {
        for sampling in [
            Sampling::at_temperature(1.0, 20, vec![2]),
            Sampling::at_temperature(0.6, 20, vec![2]),
            Sampling::greedy(20, vec![2]),
            Sampling::greedy(1, vec![]),
        ] {
            let ours = run(&model.to(&gpu)?, 40, &sampling)?;
            let expected = run(&model, 40, &sampling)?;
            for (row, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
                assert_eq!(ours.ids, expected.ids, "row {row}");
                assert_eq!(ours.ended, expected.ended);
                for (ours, expected) in ours.logprobs.iter().zip(&expected.logprobs) {
                    assert!((ours - expected).abs() < 1e-4, "{ours} {expected}");
                }
            }
            if sampling.max_new_tokens > 1 {
                assert!(ours.iter().any(|row| row.ended) && ours.iter().any(|row| !row.ended));
            }
        }
    }
    Ok(())
}

/// Rows that do not fit at once follow each other in groups, the last of which is smaller than the cache.
#[test]
fn groups_are_the_whole() -> Result<()> {
    let Some(gpu) = testing::gpu(Dtype::F32) else {
        return Ok(());
    };
    let model = fixture::model(true)?;
    let sampling = Sampling::at_temperature(1.0, 20, vec![2]);
    let expected = run(&model, 17, &sampling)?;
    let model = model.to(&Device::Cuda(gpu.clone()))?;
    let mut decoder = DeviceDecoder::new(&model, gpu);
    decoder.most = 8;
    let (prompts, stream) = (prompts(17), Stream::new(1));
    let found = decoder.generate(&prompts, (&sampling, &sampling.eos), &stream, &GO)?;
    let ids = |rows: &[Generated]| rows.iter().map(|row| row.ids.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&found), ids(&expected));
    Ok(())
}

/// In bf16 what was said while sampling is what a pass says of the same tokens.
#[test]
fn log_probabilities_are_those_of_a_pass() -> Result<()> {
    let Some(gpu) = testing::gpu(Dtype::Bf16) else {
        return Ok(());
    };
    let model = adapted()?.to(&Device::Cuda(gpu))?;
    let rows = run(&model, 30, &Sampling::at_temperature(0.8, 20, vec![2]))?;
    let mut batch = TokenBatch::new();
    let pairs = prompts(30).into_iter().zip(&rows);
    pairs.for_each(|(prompt, row)| batch.push(&prompt, &row.ids));
    let expected = model.log_probs(&batch, 0.8)?.logprobs;
    let found = rows.iter().flat_map(|row| &row.logprobs);
    assert_eq!(found.clone().count(), expected.len());
    for (found, expected) in found.zip(&expected) {
        assert!((found - expected).abs() < 0.06, "{found} {expected}");
    }
    Ok(())
}

/// Top-k of 1 is greedy whatever the temperature; top-p keeps what the processor keeps.
#[test]
fn cuts_are_the_processors() -> Result<()> {
    let Some(gpu) = testing::gpu(Dtype::F32) else {
        return Ok(());
    };
    let model = fixture::model(false)?;
    let on_gpu = model.to(&Device::Cuda(gpu))?;
    let cut = |top_k, top_p| Sampling {
        top_k,
        top_p,
        ..Sampling::at_temperature(1.3, 12, vec![2])
    };
    let greedy = run(&model, 9, &Sampling::greedy(12, vec![2]))?;
    let ids = |rows: &[Generated]| rows.iter().map(|row| row.ids.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&run(&on_gpu, 9, &cut(1, 1.0))?), ids(&greedy));
    assert_eq!(ids(&run(&on_gpu, 9, &cut(0, 1e-6))?), ids(&greedy));
    // A cut to two tokens draws only what is one of the two likeliest given what stands before it.
    let rows = run(&on_gpu, 9, &cut(2, 1.0))?;
    for (prompt, row) in prompts(9).iter().zip(&rows) {
        let mut batch = TokenBatch::new();
        batch.push(prompt, &row.ids);
        let logits = model.logits(&batch, crate::model::Read::Predicting)?;
        for (&id, logits) in row.ids.iter().zip(logits) {
            let likelier = logits.iter().filter(|&&l| l > logits[id as usize] + 1e-4);
            assert!(likelier.count() < 2);
        }
    }
    Ok(())
}

#[test]
fn what_cannot_be_sampled_is_said() -> Result<()> {
    let Some(gpu) = testing::gpu(Dtype::F32) else {
        return Ok(());
    };
    let mut model = fixture::model(true)?;
    model.parameters_mut().get_mut("model.norm.weight")?[0] = f32::NAN;
    let model = model.to(&Device::Cuda(gpu))?;
    let error = run(&model, 3, &Sampling::greedy(4, vec![])).expect_err("NaN");
    let text = error.to_string();
    assert!(
        text.contains("row") && text.contains("not finite"),
        "{text}"
    );
    let q8 = Sampling {
        weights: SamplingWeights::Q8,
        ..Sampling::greedy(1, vec![])
    };
    let error = run(&model, 1, &q8).expect_err("no q8 on a GPU").to_string();
    assert!(
        error.contains("sampling.weights") && error.contains("device.dtype"),
        "{error}"
    );
    Ok(())
}
