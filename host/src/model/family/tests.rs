//! Every family against transformers: tiny models in `host/tests/families`, with values that `tests/scripts/families.py` had
//! transformers compute.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Device as CandleDevice, Tensor};
use finegrain_sdk::rng::Stream;

use super::*;
use crate::data::ragged::TokenBatch;
use crate::device::{Device, Dtype};
use crate::error::Result;
use crate::model::{
    CausalLm, CausalLmConfig, Gradients, LoraConfig, Read, RopeScaling, Sampling, generate,
    lora::Target, plain,
};
use crate::ops::gradient_check::test_device;

/// The folders.
fn folders() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/families");
    let entries = std::fs::read_dir(all).expect("the models of tests/families");
    let mut folders: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

/// What transformers computed.
struct Golden(HashMap<String, Tensor>);

impl Golden {
    fn of(folder: &Path) -> Result<Self> {
        let path = folder.join("golden.safetensors");
        Ok(Self(candle_core::safetensors::load(
            path,
            &CandleDevice::Cpu,
        )?))
    }

    fn values(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.0.get(name).unwrap_or_else(|| panic!("{name}"));
        Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }

    fn numbers(&self, name: &str) -> Result<Vec<u32>> {
        let tensor = self.0.get(name).unwrap_or_else(|| panic!("{name}"));
        Ok(tensor.to_dtype(DType::U32)?.flatten_all()?.to_vec1()?)
    }

    /// The rows.
    fn batch(&self) -> Result<TokenBatch> {
        let ids = self.numbers("ids")?;
        let (offsets, prompts) = (self.numbers("offsets")?, self.numbers("prompt_lens")?);
        let mut batch = TokenBatch::new();
        for (bounds, prompt) in offsets.windows(2).zip(prompts) {
            let row = &ids[bounds[0] as usize..bounds[1] as usize];
            let (prompt, response) = row.split_at(prompt as usize);
            batch.push(prompt, response);
        }
        Ok(batch)
    }
}

/// Every value within `bound` of the largest.
#[track_caller]
fn assert_close(what: &str, found: &[f32], expected: &[f32], bound: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-3f32, |most, x| most.max(x.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= bound * largest,
            "{what} [{at}]: {found}, transformers {expected}"
        );
    }
}

/// The same in half precision, whose steps of 2⁻⁸ a few random layers multiply: ‖found − expected‖ against ‖expected‖.
#[track_caller]
fn assert_near(what: &str, found: &[f32], expected: &[f32], bound: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let length = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>().sqrt();
    let apart = length(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    let size = length(&mut expected.iter().copied()).max(1e-3);
    assert!(apart <= bound * size, "{what}: {apart} apart, {size} long");
}

fn name(folder: &Path) -> String {
    folder.file_name().expect("a name").to_string_lossy().into()
}

/// Logits, log-probabilities and all gradients of a family on a device, in f32.
fn values_and_gradients(folder: &Path, device: &Device) -> Result<()> {
    let (name, golden) = (name(folder), Golden::of(folder)?);
    let model = CausalLm::load(folder)?.to(device)?;
    let batch = golden.batch()?;
    let exact = device.dtype() == Dtype::F32;
    let compare = |what: &str, found: &[f32], expected: &[f32], [bound, half]: [f32; 2]| {
        if exact {
            assert_close(what, found, expected, bound);
        } else {
            assert_near(what, found, expected, half);
        }
    };
    let (of_values, of_gradients) = ([5e-5, 5e-2], [1e-4, 0.15]);
    let logits = model.logits(&batch, Read::All)?.concat();
    compare(
        &format!("{name} logits"),
        &logits,
        &golden.values("logits")?,
        of_values,
    );
    let pass = model.log_probs_pass(&batch, 1.0)?;
    compare(
        &format!("{name} logprobs"),
        pass.logprobs(),
        &golden.values("logprobs")?,
        of_values,
    );
    let mut gradients = Gradients::zeros(&model)?;
    let d_logprobs = vec![-1.0; pass.logprobs().len()];
    pass.backward(&model, &d_logprobs, None, &mut gradients)?;
    let found = gradients.values(0)?;
    for entry in model.parameters().entries() {
        let expected = golden.values(&format!("grad.{}", entry.name))?;
        let found = &found[entry.range.clone()];
        compare(
            &format!("{name} {}", entry.name),
            found,
            &expected,
            of_gradients,
        );
    }
    Ok(())
}

#[test]
fn the_plain_model_says_what_the_fast_one_computes() -> Result<()> {
    for folder in folders() {
        let (model, batch) = (CausalLm::load(&folder)?, Golden::of(&folder)?.batch()?);
        let mut plain = Vec::new();
        for row in batch.offsets().windows(2) {
            let ids = &batch.ids()[row[0] as usize..row[1] as usize];
            let logits = plain::logits(&model, ids)?;
            plain.append(&mut logits.flatten_all()?.to_vec1::<f32>()?);
        }
        let fast = model.logits(&batch, Read::All)?.concat();
        assert_close(&name(&folder), &fast, &plain, 5e-5);
    }
    Ok(())
}

fn all_families(device: &Device) -> Result<()> {
    let folders = folders();
    assert!(folders.len() >= Family::ALL.len());
    folders
        .iter()
        .try_for_each(|folder| values_and_gradients(folder, device))
}

test_device!(all_families, families_on_cpu, families_on_cuda);

#[test]
fn every_family_has_a_model_and_both_spellings_of_its_configuration_are_one() -> Result<()> {
    let mut seen = Vec::new();
    for folder in folders() {
        let read = |file: &str| {
            let text = std::fs::read(folder.join(file)).expect(file);
            CausalLmConfig::from_json(&text).map_err(|error| error.context(name(&folder)))
        };
        let config = read("config.json")?;
        assert_eq!(read("config.4.json")?, config, "{}", name(&folder));
        for task in ["ForCausalLM", "ForSequenceClassification"] {
            let text = config.to_json(task);
            let again = CausalLmConfig::from_json(text.as_bytes())?;
            assert_eq!(again, config, "{}", name(&folder));
            // transformers 5 takes whole numbers alone there.
            let written: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let scalar = &written["query_pre_attn_scalar"];
            assert!(scalar.is_null() || scalar.is_u64(), "{scalar}");
        }
        seen.push(config.family);
    }
    for family in Family::ALL {
        assert!(seen.contains(&family), "{family}");
    }
    Ok(())
}

fn sampling(device: &Device) -> Result<()> {
    for folder in folders() {
        let (name, golden) = (name(&folder), Golden::of(&folder)?);
        let model = CausalLm::load(&folder)?.to(device)?;
        let batch = golden.batch()?;
        let prompt = batch.ids()[..batch.prompt_len(0)].to_vec();
        let expected = golden.numbers("greedy")?;
        // Rows as long as positions are made for.
        let most = model.config().longest_row() - prompt.len();
        let expected = &expected[..expected.len().min(most)];
        let sampling = Sampling::greedy(expected.len(), vec![u32::MAX]);
        let (stream, go) = (Stream::new(1), AtomicBool::new(false));
        let rows = generate(
            &model,
            std::slice::from_ref(&prompt),
            &sampling,
            &stream,
            &go,
        )?;
        if device.dtype() == Dtype::F32 {
            assert_eq!(rows[0].ids, expected, "{name}");
        }
        let mut again = TokenBatch::new();
        again.push(&prompt, &rows[0].ids);
        let logprobs = model.log_probs(&again, 1.0)?.logprobs;
        if model.samples_exactly(&Sampling {
            temperature: 1.0,
            ..sampling
        }) {
            assert_eq!(rows[0].logprobs, logprobs, "{name}");
        } else {
            let bound = if device.dtype() == Dtype::F32 {
                1e-5
            } else {
                5e-2
            };
            assert_close(&name, &rows[0].logprobs, &logprobs, bound);
        }
    }
    Ok(())
}

test_device!(sampling, sampling_on_cpu, sampling_on_cuda);

/// A fresh adapter changes nothing; its gradients are those of a merged model's weights, seen through B and A.
#[test]
fn adapters_of_every_family_learn_what_the_merged_weights_would() -> Result<()> {
    for folder in folders() {
        let (name, golden) = (name(&folder), Golden::of(&folder)?);
        let base = CausalLm::load(&folder)?;
        let batch = golden.batch()?;
        let lora = LoraConfig {
            rank: 2,
            alpha: 3.0,
            targets: Target::USUAL.to_vec(),
        };
        let mut model = base.with_lora(&lora, &Stream::new(5))?;
        assert_eq!(
            model.logits(&batch, Read::All)?,
            base.logits(&batch, Read::All)?,
            "{name}"
        );
        let count = model.parameters().len();
        for (at, value) in model.parameters_mut().host_mut().iter_mut().enumerate() {
            *value += 0.2 * ((at % 97) as f32 * 1.7).sin();
        }
        let merged = model.merged()?;
        let close = |a: &CausalLm, b: &CausalLm| -> Result<()> {
            let [a, b] = [a, b].map(|model| model.logits(&batch, Read::All));
            assert_close(&name, &a?.concat(), &b?.concat(), 1e-4);
            Ok(())
        };
        close(&model, &merged)?;
        // Saved as PEFT does, and read back.
        let dir = tempfile::tempdir().expect("a temporary folder");
        model.save(dir.path())?;
        assert_eq!(
            CausalLm::load(dir.path())?.parameters().host(),
            model.parameters().host()
        );

        let gradients = |model: &CausalLm| -> Result<Vec<f32>> {
            let pass = model.log_probs_pass(&batch, 1.0)?;
            let d_logprobs = vec![-1.0; pass.logprobs().len()];
            let mut gradients = Gradients::zeros(model)?;
            pass.backward(model, &d_logprobs, None, &mut gradients)?;
            Ok(gradients.values(0)?.into_owned())
        };
        let (of_adapter, of_merged) = (gradients(&model)?, gradients(&merged)?);
        assert_eq!(of_adapter.len(), count);
        // dA = s · Bᵀ · dW and dB = s · dW · Aᵀ.
        let scale = lora.scale() as f32;
        let entries = model.parameters().entries();
        for pair in entries.chunks_exact(2) {
            let [a, b] = pair else { panic!("pairs") };
            let module = a.name.trim_start_matches("base_model.model.");
            let module = module.trim_end_matches(".lora_A.weight");
            let range = merged.weights().range(&format!("{module}.weight"))?;
            let (d_w, values) = (&of_merged[range], model.parameters().host());
            let (rank, inputs, outputs) = (a.shape[0], a.shape[1], b.shape[0]);
            let (a_values, b_values) = (&values[a.range.clone()], &values[b.range.clone()]);
            let d_a: Vec<f32> = (0..rank * inputs)
                .map(|at| {
                    let (r, i) = (at / inputs, at % inputs);
                    let terms = (0..outputs).map(|o| b_values[o * rank + r] * d_w[o * inputs + i]);
                    scale * terms.sum::<f32>()
                })
                .collect();
            let d_b: Vec<f32> = (0..outputs * rank)
                .map(|at| {
                    let (o, r) = (at / rank, at % rank);
                    let terms = (0..inputs).map(|i| d_w[o * inputs + i] * a_values[r * inputs + i]);
                    scale * terms.sum::<f32>()
                })
                .collect();
            let what = |part: &str| format!("{name} {module} {part}");
            assert_close(&what("A"), &of_adapter[a.range.clone()], &d_a, 1e-3);
            assert_close(&what("B"), &of_adapter[b.range.clone()], &d_b, 1e-3);
        }
    }
    Ok(())
}

/// Log-probabilities behind a step of adapters up the gradient of PPO's objective, which is Σ A·ρ at the policy that sampled, and
/// what the step gained.
fn stepped(folder: &Path, device: &Device) -> Result<(Vec<f32>, f32)> {
    let batch = Golden::of(folder)?.batch()?;
    let base = CausalLm::load(folder)?.to(device)?;
    let mut policy = base.with_lora(&LoraConfig::default(), &Stream::new(5))?;
    let pass = policy.log_probs_pass(&batch, 1.0)?;
    let old = pass.logprobs().to_vec();
    let advantages: Vec<f32> = (0..old.len()).map(|at| (at as f32 * 2.3).sin()).collect();
    let mut gradients = Gradients::zeros(&policy)?;
    pass.backward(&policy, &advantages, None, &mut gradients)?;
    let step = gradients.values(0)?.into_owned();
    let norm = step.iter().map(|x| x * x).sum::<f32>().sqrt();
    policy.parameters_mut().edit(|values| {
        let values = values.iter_mut().zip(&step);
        values.for_each(|(value, d)| *value += 0.01 / norm * d);
        Ok(())
    })?;
    let new = policy.log_probs(&batch, 1.0)?.logprobs;
    let gained = new.iter().zip(&old).zip(&advantages);
    let gained = gained.map(|((new, old), a)| a * ((new - old).exp() - 1.0));
    Ok((new.clone(), gained.sum()))
}

fn steps_of_ppo(device: &Device) -> Result<()> {
    for folder in folders() {
        let (name, (new, gained)) = (name(&folder), stepped(&folder, device)?);
        assert!(gained > 0.0, "{name}: {gained}");
        if device.dtype() == Dtype::F32 {
            assert_close(&name, &new, &stepped(&folder, &Device::Cpu)?.0, 1e-4);
        }
    }
    Ok(())
}

test_device!(steps_of_ppo, steps_of_ppo_on_cpu, steps_of_ppo_on_cuda);

#[test]
fn a_saved_model_of_every_family_is_the_same_to_the_bit() -> Result<()> {
    for folder in folders() {
        let model = CausalLm::load(&folder)?;
        let dir = tempfile::tempdir().expect("a temporary folder");
        model.save(dir.path())?;
        let again = CausalLm::load(dir.path())?;
        // generation_config.json, which was read too, is the original's.
        assert_eq!(
            again.config().variant,
            model.config().variant,
            "{}",
            name(&folder)
        );
        assert_eq!(again.weights().host(), model.weights().host());
    }
    Ok(())
}

#[test]
fn activations_computed_again_give_the_same_bits() -> Result<()> {
    for folder in folders() {
        let batch = Golden::of(&folder)?.batch()?;
        let gradients = |recompute: bool| -> Result<Vec<f32>> {
            let mut model = CausalLm::load(&folder)?;
            model.set_recompute(recompute);
            let pass = model.log_probs_pass(&batch, 1.0)?;
            let d_logprobs = vec![-1.0; pass.logprobs().len()];
            let mut gradients = Gradients::zeros(&model)?;
            pass.backward(&model, &d_logprobs, None, &mut gradients)?;
            Ok(gradients.values(0)?.into_owned())
        };
        assert!(gradients(false)? == gradients(true)?, "{}", name(&folder));
    }
    Ok(())
}

#[test]
fn a_part_of_a_map_has_no_adapter_of_its_own() {
    let lora = |targets: &[Target]| LoraConfig {
        targets: targets.to_vec(),
        ..LoraConfig::default()
    };
    let refused = lora(&[Target::QProj, Target::OProj]).check_family(Family::Phi3);
    let error = refused.expect_err("a part").to_string();
    assert!(
        error.contains("q_proj is named and k_proj is not"),
        "{error}"
    );
    for targets in [&[Target::QkvProj][..], &Target::USUAL, &[Target::OProj]] {
        lora(targets)
            .check_family(Family::Phi3)
            .expect("whole maps");
        lora(targets)
            .check_family(Family::Llama)
            .expect("maps of its own");
    }
    let fields = lora(&[Target::QkvProj]).fields(Family::Llama);
    assert_eq!(fields, [Field::Query, Field::Key, Field::Value]);
}

/// Positions of Phi 3's long models have factors for rows of so many tokens.
#[test]
fn rows_beyond_the_first_factors_of_longrope_are_refused() -> Result<()> {
    let folder = folders().into_iter().find(|it| name(it) == "phi3-longrope");
    let model = CausalLm::load(&folder.expect("the model"))?;
    let config = model.config();
    assert_eq!(
        (config.longest_row(), config.max_position_embeddings),
        (12, 32)
    );
    let mut batch = TokenBatch::new();
    batch.push(&[3; 10], &[4; 3]);
    let error = model
        .log_probs(&batch, 1.0)
        .expect_err("too long")
        .to_string();
    let expected =
        "row 0 has 13 tokens, more than the model's original_max_position_embeddings of 12";
    assert!(error.contains(expected), "{error}");
    // What a GGUF rounds to f32 is still what follows from the lengths, and no key beside them.
    let mut rounded = config.clone();
    if let RopeScaling::LongRope {
        attention_factor, ..
    } = &mut rounded.variant.rope_scaling
    {
        *attention_factor = f64::from(*attention_factor as f32);
    }
    assert!(!rounded.to_json("ForCausalLM").contains("attention_factor"));
    Ok(())
}

/// PEFT passes over names that match nothing as long as one does.
#[test]
fn an_adapter_that_names_maps_of_other_families_too_is_read() -> Result<()> {
    let folder = folders().into_iter().find(|it| name(it) == "phi3");
    let lora = LoraConfig {
        targets: vec![Target::OProj, Target::DownProj],
        ..LoraConfig::default()
    };
    let model = CausalLm::load(&folder.expect("the model"))?;
    let model = model.with_lora(&lora, &Stream::new(5))?;
    let dir = tempfile::tempdir().expect("a temporary folder");
    model.save(dir.path())?;
    let file = dir.path().join("adapter_config.json");
    let read = |targets: &[&str]| {
        let text = std::fs::read(&file).expect("written");
        let mut keys: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        keys["target_modules"] = serde_json::json!(targets);
        std::fs::write(&file, keys.to_string()).expect("written");
        CausalLm::load(dir.path())
    };
    let usual = Target::USUAL.map(Target::name);
    assert_eq!(read(&usual)?.parameters().host(), model.parameters().host());
    let error = read(&["o_proj", "down_proj", "experts"]).expect_err("a map of none");
    assert!(error.to_string().contains("\"experts\""), "{error}");
    Ok(())
}
