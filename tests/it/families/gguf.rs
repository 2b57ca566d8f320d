//! GGUF files of every family, written by `families_gguf.py` as llama.cpp's converter writes them: the logits are those of
//! transformers, and llama.cpp itself goes on as we do.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use finegrain::Result;
use finegrain::data::ragged::TokenBatch;
use finegrain::model::{self, CausalLm, Read, Sampling};
use finegrain_sdk::rng::Stream;
use serde_json::{Value, json};

use super::{ALL, assert_close, logits, values};
use crate::python::python;

/// Tokens that are compared with llama.cpp's.
const COUNT: usize = 12;

/// A file, and what transformers computes with the model that it was made of.
struct Written {
    name: String,
    file: PathBuf,
    rows: Vec<Vec<u32>>,
    logits: Vec<f32>,
    prompt: Vec<u32>,
}

/// The files, in a folder that must outlive them.
fn written(out: &tempfile::TempDir) -> Option<Vec<Written>> {
    let seen = python("families_gguf.py", [ALL.as_ref(), out.path()], None)?;
    let files = seen.as_array().expect("a list").iter().map(|one| {
        let ids = |key: &str| one[key].clone();
        Written {
            name: one["name"].as_str().expect("a name").to_owned(),
            file: one["file"].as_str().expect("a path").into(),
            rows: serde_json::from_value(ids("rows")).expect("rows of ids"),
            logits: values(&one["logits"]),
            prompt: serde_json::from_value(ids("prompt")).expect("ids"),
        }
    });
    Some(files.collect())
}

fn log_softmax(row: &[f32]) -> Vec<f32> {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = row.iter().map(|x| (x - most).exp()).sum();
    row.iter().map(|x| x - most - sum.ln()).collect()
}

/// llama.cpp's greedy tokens are ours, and so are the log-probabilities of the whole vocabulary at each. `false`, with the
/// reason printed, where there is no llama.cpp.
fn llama_cpp_agrees(written: &Written, model: &CausalLm) -> Result<bool> {
    let (name, prompt) = (&written.name, &written.prompt);
    let vocabulary = model.config().vocab_size;
    let asked = json!({"prompt": prompt, "count": COUNT, "vocabulary": vocabulary});
    let Some(seen) = python("llama_cpp_greedy.py", [&written.file], Some(&asked)) else {
        return Ok(false);
    };
    let tokens: Vec<u32> = serde_json::from_value(seen["tokens"].clone()).expect("ids");
    assert_eq!(tokens.len(), COUNT, "{name}");
    let (greedy, go) = (Sampling::greedy(COUNT, vec![]), AtomicBool::new(false));
    let rows = model::generate(
        model,
        std::slice::from_ref(prompt),
        &greedy,
        &Stream::new(0),
        &go,
    )?;
    assert_eq!(rows[0].ids, tokens, "{name}");
    let mut batch = TokenBatch::new();
    batch.push(prompt, &tokens);
    let ours = model.logits(&batch, Read::All)?;
    let theirs: &Vec<Value> = seen["logprobs"].as_array().expect("a list for every token");
    assert_eq!(theirs.len(), COUNT, "{name}");
    // llama.cpp reads GELU from a table in half precision.
    let bound = if name.starts_with("gemma") {
        1e-3
    } else {
        5e-5
    };
    for (at, theirs) in theirs.iter().enumerate() {
        let ours = log_softmax(&ours[prompt.len() - 1 + at]);
        assert_close(&format!("{name} {at}"), &ours, &values(theirs), bound);
    }
    Ok(true)
}

#[test]
fn gguf_files_of_every_family_are_the_model_of_transformers_and_of_llama_cpp() -> Result<()> {
    let out = tempfile::tempdir().unwrap();
    let Some(files) = written(&out) else {
        return Ok(());
    };
    let mut llama_cpp = true;
    for written in &files {
        let model = CausalLm::load(&written.file)?;
        let ours = logits(&model, &written.rows)?;
        assert_close(&written.name, &ours, &written.logits, 5e-5);
        // llama.cpp warns that it leaves a window of this family out.
        if llama_cpp && written.name != "phi3-window" {
            llama_cpp = llama_cpp_agrees(written, &model)?;
        }
    }
    Ok(())
}
