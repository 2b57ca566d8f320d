//! A model on a GPU against the same model on the processor.

use crate::device::{Device, Dtype, testing};
use crate::error::Result;
use crate::model::{CausalLm, Gradients, LoraConfig, Read, ScalarHead, ScoredModel, fixture};
use finegrain_sdk::rng::Stream;

/// Root of the squared differences over the root of the squares of what is expected.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let differences = found.iter().zip(expected);
    let off = squares(&mut differences.map(|(f, e)| f64::from(f - e)));
    let all = squares(&mut expected.iter().map(|&e| f64::from(e)));
    (off / all).sqrt()
}

/// Tolerances of f32 and bf16. bf16 rounds by up to 2⁻⁹, at a few dozen places one after the other; single operations are held
/// to 2e-2 where they are tested.
const TOLERANCES: [(Dtype, f64); 2] = [(Dtype::F32, 1e-5), (Dtype::Bf16, 0.06)];

/// Models of the tests: tied and not, with an adapter, with activations computed again.
fn models() -> Result<Vec<(&'static str, CausalLm)>> {
    let tied = fixture::model(true)?;
    let mut again = fixture::model(false)?;
    again.set_recompute(true);
    let lora = LoraConfig {
        rank: 3,
        ..LoraConfig::default()
    };
    let mut adapted = tied.with_lora(&lora, &Stream::new(3))?;
    adapted.parameters_mut().edit(|values| {
        for (at, value) in values.iter_mut().enumerate() {
            *value += 0.2 * (at as f32).sin();
        }
        Ok(())
    })?;
    Ok(vec![
        ("tied", tied),
        ("apart", fixture::model(false)?),
        ("recompute", again),
        ("adapter", adapted),
    ])
}

#[test]
fn log_probabilities_and_their_gradients_are_the_processors() -> Result<()> {
    let batch = fixture::batch();
    let (d_logprobs, d_entropy) = ([1.0, -2.0, 0.5, 0.25, 3.0], [0.5, 0.25, -1.0, 0.0, 2.0]);
    for (dtype, tolerance) in TOLERANCES {
        let Some(gpu) = testing::gpu(dtype) else {
            return Ok(());
        };
        for (name, model) in models()? {
            let on_gpu = model.to(&Device::Cuda(gpu.clone()))?;
            let mut found = Vec::new();
            for model in [&model, &on_gpu] {
                let mut gradients = Gradients::zeros(model)?;
                let pass = model.log_probs_pass(&batch, 0.7)?;
                let said = [pass.logprobs(), pass.entropy()].concat();
                pass.backward(model, &d_logprobs, Some(&d_entropy), &mut gradients)?;
                let norm = gradients.norm()?;
                found.push((said, gradients.values(0)?.into_owned(), norm));
            }
            let said = distance(&found[1].0, &found[0].0);
            let gradients = distance(&found[1].1, &found[0].1);
            assert!(said < tolerance, "{name} {dtype:?}: {said}");
            assert!(gradients < tolerance, "{name} {dtype:?}: {gradients}");
            let norm = (found[1].2 / found[0].2 - 1.0).abs();
            assert!(norm < tolerance, "{name} {dtype:?}: norm {norm}");
            // Parameter by parameter, so that a small one that is wrong does not hide behind large ones.
            for entry in model.parameters().entries() {
                let [found, expected] = [1, 0].map(|at| &found[at].1[entry.range.clone()]);
                let off = distance(found, expected);
                assert!(
                    off < 3.0 * tolerance,
                    "{name} {dtype:?} {}: {off}",
                    entry.name
                );
            }
        }
    }
    Ok(())
}

#[test]
fn scores_values_and_their_gradients_are_the_processors() -> Result<()> {
    let batch = fixture::batch();
    let grad = [1.0, -2.0, 0.5, 0.25, 3.0];
    for (dtype, tolerance) in TOLERANCES {
        let Some(gpu) = testing::gpu(dtype) else {
            return Ok(());
        };
        for (name, backbone) in models()? {
            let head = ScalarHead::random(backbone.config().hidden_size, &Stream::new(3))?;
            let model = ScoredModel::new(backbone, head)?;
            let on_gpu = model.to(&Device::Cuda(gpu.clone()))?;
            let scores = distance(&on_gpu.scores(&batch)?, &model.scores(&batch)?);
            assert!(scores < tolerance, "{name} {dtype:?}: {scores}");
            let mut found = Vec::new();
            for model in [&model, &on_gpu] {
                let mut gradients = Gradients::zeros(model)?;
                let pass = model.values_pass(&batch)?;
                let values = pass.scores().to_vec();
                pass.backward(model, &grad, &mut gradients)?;
                let [backbone, head] =
                    [0, 1].map(|set| gradients.values(set).map(std::borrow::Cow::into_owned));
                found.push([values, backbone?, head?]);
            }
            for part in 0..3 {
                let off = distance(&found[1][part], &found[0][part]);
                assert!(off < tolerance, "{name} {dtype:?} {part}: {off}");
            }
        }
    }
    Ok(())
}

#[test]
fn hidden_states_and_logits_are_the_processors() -> Result<()> {
    let batch = fixture::batch();
    let Some(gpu) = testing::gpu(Dtype::F32) else {
        return Ok(());
    };
    let model = fixture::model(false)?;
    let on_gpu = model.to(&Device::Cuda(gpu))?;
    for read in [Read::All, Read::Responses, Read::Predicting] {
        let hidden = distance(&on_gpu.hidden(&batch, read)?, &model.hidden(&batch, read)?);
        assert!(hidden < 1e-5, "{read:?}: {hidden}");
        let logits = [&on_gpu, &model].map(|model| model.logits(&batch, read));
        let [found, expected] = logits;
        let logits = distance(&found?.concat(), &expected?.concat());
        assert!(logits < 1e-5, "{read:?}: {logits}");
    }
    Ok(())
}
