//! A real checkpoint against transformers: logits, log-probabilities, text, and folders that go both ways.
//!
//! Golden values: tests/scripts/stories260k.py, transformers 5.23.0, torch 2.15.0.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use finegrain::Result;
use finegrain::data::ragged::TokenBatch;
use finegrain::data::tokenizer::Tokenizer;
use finegrain::model::{self, CausalLm, CausalLmConfig, Read, Sampling, ScalarHead, ScoredModel};
use finegrain_sdk::rng::Stream;
use finegrain_tests::shared;
use serde_json::Value;

use crate::python::python;

const PROMPT: &str = "Once upon a time";
const PROMPT_IDS: [u32; 5] = [1, 403, 407, 261, 378];
const STORY: &str = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. \
                     One day, she saw a big, red ball. She wanted to play with it, but it was too high.";
/// Tokens of STORY behind the prompt.
const STORY_TOKENS: usize = 57;

static GO: AtomicBool = AtomicBool::new(false);

fn stories() -> Option<PathBuf> {
    shared("models/stories260k")
}

fn greedy(model: &CausalLm) -> Result<TokenBatch> {
    let sampling = Sampling::greedy(STORY_TOKENS, model.config().eos_token_id.clone());
    let rows = model::generate(
        model,
        &[PROMPT_IDS.to_vec()],
        &sampling,
        &Stream::new(0),
        &GO,
    )?;
    let mut batch = TokenBatch::new();
    batch.push(&PROMPT_IDS, &rows[0].ids);
    Ok(batch)
}

fn logits(model: &CausalLm, batch: &TokenBatch) -> Result<Vec<Vec<f32>>> {
    model.logits(batch, Read::All)
}

fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let apart = (found - expected).abs();
        assert!(
            apart <= tolerance,
            "{index}: {found} and {expected}, {apart} apart"
        );
    }
}

#[test]
fn the_tokenizer_agrees_with_transformers() -> Result<()> {
    let Some(dir) = stories() else { return Ok(()) };
    let tokenizer = Tokenizer::load(&dir)?;
    assert_eq!(tokenizer.encode(PROMPT)?, PROMPT_IDS[1..]);
    assert_eq!(tokenizer.encode_prompt(PROMPT)?, PROMPT_IDS);
    assert_eq!(tokenizer.decode(&PROMPT_IDS)?, PROMPT);
    assert_eq!(
        (tokenizer.bos(), tokenizer.eos(), tokenizer.vocab_size()),
        (1, 2, 512)
    );
    Ok(())
}

#[test]
#[expect(clippy::unreadable_literal, reason = "as the script prints them")]
fn logits_and_log_probs_are_those_of_transformers() -> Result<()> {
    let Some(dir) = stories() else { return Ok(()) };
    let model = CausalLm::load(&dir)?;
    let batch = greedy(&model)?;
    let logits = logits(&model, &batch)?;
    let chosen = |position: usize| [0, 2, 261, 432, 511].map(|id| logits[position][id]);
    assert_close(
        &chosen(0),
        &[-6.22291, -6.22374, 9.54127, 7.57787, -4.40552],
        1e-4,
    );
    assert_close(
        &chosen(4),
        &[-10.13658, -10.13809, 7.6304, 17.7994, -8.07628],
        1e-4,
    );
    assert_close(
        &chosen(30),
        &[-14.05799, -14.06005, 9.92989, 10.59329, -13.51671],
        1e-4,
    );
    let logprobs = |temperature| -> Result<Vec<f32>> {
        let logprobs = model.log_probs(&batch, temperature)?.logprobs;
        Ok(logprobs[..12].to_vec())
    };
    let at_1 = [
        -0.031703, -0.068423, -0.015955, -0.000784, -0.493979, -0.445867, -0.004891, -0.000658,
        -0.018789, -0.0766, -0.070321, -0.103418,
    ];
    let at_07 = [
        -0.006592, -0.017317, -0.001729, -1e-05, -0.153958, -0.276712, -0.000197, -1.8e-05,
        -0.001931, -0.014162, -0.020484, -0.027167,
    ];
    assert_close(&logprobs(1.0)?, &at_1, 1e-5);
    assert_close(&logprobs(0.7)?, &at_07, 1e-5);
    Ok(())
}

#[test]
fn the_likeliest_story_is_told_word_for_word() -> Result<()> {
    let Some(dir) = stories() else { return Ok(()) };
    assert_eq!(
        model::complete(
            &dir,
            PROMPT,
            &Sampling::greedy(STORY_TOKENS, vec![]),
            1,
            &GO
        )?
        .text,
        STORY
    );
    let sampled = |seed| {
        model::complete(
            &dir,
            PROMPT,
            &Sampling::at_temperature(1.0, 40, vec![]),
            seed,
            &GO,
        )
    };
    assert_eq!(sampled(1)?, sampled(1)?);
    assert_ne!(sampled(1)?, sampled(2)?);
    assert!(sampled(1)?.text.starts_with(PROMPT));
    Ok(())
}

#[test]
fn sampled_log_probs_are_those_of_the_model_in_any_batch() -> Result<()> {
    let Some(dir) = stories() else { return Ok(()) };
    let model = CausalLm::load(&dir)?;
    let prompts: Vec<Vec<u32>> = (1..=PROMPT_IDS.len())
        .flat_map(|length| [PROMPT_IDS[..length].to_vec(), vec![1]])
        .collect();
    let sampling = Sampling {
        top_k: 50,
        top_p: 0.95,
        ..Sampling::at_temperature(0.8, 30, vec![2])
    };
    let stream = Stream::new(5);
    let rows = model::generate(&model, &prompts, &sampling, &stream, &GO)?;
    assert_eq!(
        rows,
        model::generate(&model, &prompts, &sampling, &stream, &GO)?
    );
    assert_eq!(
        rows[..3],
        model::generate(&model, &prompts[..3], &sampling, &stream, &GO)?
    );

    let mut all = TokenBatch::new();
    let mut alone = Vec::new();
    for (prompt, row) in prompts.iter().zip(&rows) {
        all.push(prompt, &row.ids);
        let mut batch = TokenBatch::new();
        batch.push(prompt, &row.ids);
        alone.extend(model.log_probs(&batch, 0.8)?.logprobs);
    }
    let together = model.log_probs(&all, 0.8)?.logprobs;
    let sampled: Vec<f32> = rows.iter().flat_map(|row| row.logprobs.clone()).collect();
    assert_close(&together, &alone, 1e-5);
    assert_close(&sampled, &together, 1e-4);
    Ok(())
}

#[test]
fn a_saved_copy_is_the_same_model() -> Result<()> {
    let Some(dir) = stories() else { return Ok(()) };
    let model = CausalLm::load(&dir)?;
    let copy = tempfile::tempdir().unwrap();
    model.save(copy.path())?;
    Tokenizer::load(&dir)?.save(copy.path())?;
    let again = CausalLm::load(copy.path())?;
    assert_eq!(again.weights().entries().len(), 47);
    let batch = greedy(&model)?;
    assert_eq!(again.config(), model.config());
    assert_eq!(logits(&again, &batch)?, logits(&model, &batch)?);
    let Some(seen) = transformers(copy.path(), STORY) else {
        return Ok(());
    };
    assert_eq!(seen["ids"], serde_json::json!(batch.ids()));
    assert_eq!(
        (&seen["bos"], &seen["eos"], &seen["generation_eos"]),
        (&1.into(), &2.into(), &2.into())
    );
    assert_close(&values(&seen), &logits(&model, &batch)?.concat(), 1e-4);
    Ok(())
}

/// What the small checkpoint leaves at its defaults: a head of its own, heads that are not C / H wide, another θ.
#[test]
fn a_fresh_model_and_a_reward_model_load_in_transformers() -> Result<()> {
    let Some(dir) = stories() else { return Ok(()) };
    let tokenizer = Tokenizer::load(&dir)?;
    let config = CausalLmConfig {
        num_hidden_layers: 2,
        head_dim: 12,
        num_key_value_heads: 2,
        rope_theta: 300.0,
        rms_norm_eps: 1e-3,
        tie_word_embeddings: false,
        ..CausalLm::load(&dir)?.config().clone()
    };
    let mut model = CausalLm::new(config.clone(), &Stream::new(2))?;
    // Larger weights than fresh ones: differences in the attention are then far above the tolerance.
    let entries = model.weights().entries().to_vec();
    for entry in entries.iter().filter(|entry| !entry.name.contains("norm")) {
        let values = model.parameters_mut().get_mut(&entry.name)?;
        for value in values {
            *value *= 1.3;
        }
    }
    let copy = tempfile::tempdir().unwrap();
    model.save(copy.path())?;
    tokenizer.save(copy.path())?;
    let mut batch = TokenBatch::new();
    batch.push(&tokenizer.encode_prompt(STORY)?, &[]);
    if let Some(seen) = transformers(copy.path(), STORY) {
        assert_close(&values(&seen), &logits(&model, &batch)?.concat(), 1e-4);
    }

    let head = ScalarHead::random(config.hidden_size, &Stream::new(3))?;
    let scored = ScoredModel::new(model, head).unwrap();
    scored.save(copy.path())?;
    // All but the first token as a response: a score for each.
    let mut batch = TokenBatch::new();
    let ids = tokenizer.encode_prompt(STORY)?;
    batch.push(&ids[..1], &ids[1..]);
    let ours: Vec<f32> = scored.scores(&batch)?;
    let again = ScoredModel::load(copy.path())?;
    assert_eq!(again.scores(&batch)?, ours);
    if let Some(seen) = transformers(copy.path(), STORY) {
        assert_close(&values(&seen)[1..], &ours, 1e-4);
    }
    Ok(())
}

#[test]
fn a_tokenizer_with_more_tokens_than_the_model_is_refused() -> Result<()> {
    let Some(dir) = stories() else { return Ok(()) };
    let tokenizer = Tokenizer::load(&dir)?;
    let config = CausalLmConfig {
        vocab_size: 500,
        ..CausalLm::load(&dir)?.config().clone()
    };
    let model = CausalLm::new(config, &Stream::new(0))?;
    let copy = tempfile::tempdir().unwrap();
    model.save(copy.path())?;
    tokenizer.save(copy.path())?;
    let error =
        model::complete(copy.path(), PROMPT, &Sampling::greedy(4, vec![]), 0, &GO).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("512 tokens") && text.contains("vocab_size is 500"),
        "{text}"
    );
    assert_eq!(error.exit_code(), 2);
    Ok(())
}

/// What transformers makes of a folder (tests/scripts/load.py); `None` where `FINEGRAIN_PYTHON` names no interpreter.
fn transformers(folder: &Path, text: &str) -> Option<Value> {
    python("load.py", [folder.as_os_str(), text.as_ref()], None)
}

/// The numbers of [`transformers`], row after row.
fn values(seen: &Value) -> Vec<f32> {
    let rows = seen["values"].as_array().expect("rows");
    let numbers = rows.iter().flat_map(|row| row.as_array().expect("a row"));
    numbers
        .map(|number| number.as_f64().expect("a number") as f32)
        .collect()
}
