//! Every family out and back: what we save transformers and PEFT read, what PEFT saves we read, and GGUF files as llama.cpp has
//! them. The models are those of `host/tests/families`, whose README says what lies there.

mod gguf;

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use finegrain::Result;
use finegrain::data::ragged::TokenBatch;
use finegrain::model::{CausalLm, LoraConfig, Read, ScalarHead, ScoredModel};
use finegrain_sdk::rng::Stream;
use serde_json::{Value, json};

use crate::python::python;

const ALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../host/tests/families");

/// A folder of `host/tests/families`.
struct Fixture {
    name: String,
    folder: PathBuf,
    golden: HashMap<String, Tensor>,
}

impl Fixture {
    fn all() -> Result<Vec<Self>> {
        let entries = std::fs::read_dir(ALL).expect("the models of every family");
        let mut folders: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        folders.retain(|path| path.is_dir());
        folders.sort();
        let read = folders.into_iter().map(|folder| {
            let golden = folder.join("golden.safetensors");
            Ok(Self {
                name: folder.file_name().unwrap().to_string_lossy().into_owned(),
                golden: candle_core::safetensors::load(golden, &Device::Cpu)?,
                folder,
            })
        });
        read.collect()
    }

    fn numbers(&self, name: &str) -> Result<Vec<u32>> {
        Ok(self.golden[name].to_dtype(DType::U32)?.to_vec1()?)
    }

    fn rows_of(&self, kind: &str) -> Result<Vec<Vec<u32>>> {
        let ids = self.numbers(&format!("{kind}ids"))?;
        let offsets = self.numbers(&format!("{kind}offsets"))?;
        let rows = offsets
            .windows(2)
            .map(|ends| ids[ends[0] as usize..ends[1] as usize].to_vec());
        Ok(rows.collect())
    }

    fn rows(&self) -> Result<Vec<Vec<u32>>> {
        self.rows_of("")
    }

    /// Where PEFT puts an adapter: the maps as the family's files have them.
    fn targets(&self) -> &'static [&'static str] {
        if self.name.starts_with("phi3") {
            &["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
        } else {
            &[
                "q_proj",
                "k_proj",
                "v_proj",
                "o_proj",
                "gate_proj",
                "up_proj",
                "down_proj",
            ]
        }
    }
}

/// The logits of every token of every row.
fn logits(model: &CausalLm, rows: &[Vec<u32>]) -> Result<Vec<f32>> {
    let mut batch = TokenBatch::new();
    for row in rows {
        batch.push(row, &[]);
    }
    Ok(model.logits(&batch, Read::All)?.concat())
}

/// Numbers of a script.
fn values(seen: &Value) -> Vec<f32> {
    serde_json::from_value(seen.clone()).expect("numbers")
}

/// Every value within `bound` of the largest.
#[track_caller]
fn assert_close(what: &str, found: &[f32], expected: &[f32], bound: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-3f32, |most, x| most.max(x.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= bound * largest,
            "{what} [{at}]: {found} here, {expected} there"
        );
    }
}

/// What `family_check.py` says of every task, in order.
fn checked(tasks: &[Value]) -> Option<Vec<Vec<f32>>> {
    let seen = python("family_check.py", [""; 0], Some(&json!(tasks)))?;
    let seen: Vec<_> = seen
        .as_array()
        .expect("a list")
        .iter()
        .map(values)
        .collect();
    assert_eq!(seen.len(), tasks.len());
    Some(seen)
}

#[test]
fn transformers_computes_the_same_with_a_saved_folder_of_every_family() -> Result<()> {
    let (mut kept, mut tasks, mut expected) = (Vec::new(), Vec::new(), Vec::new());
    for fixture in Fixture::all()? {
        let dir = tempfile::tempdir().unwrap();
        CausalLm::load(&fixture.folder)?.save(dir.path())?;
        for kind in ["", "long."] {
            if let Some(golden) = fixture.golden.get(&format!("{kind}logits")) {
                tasks.push(
                    json!({"do": "logits", "folder": dir.path(), "rows": fixture.rows_of(kind)?}),
                );
                let logits: Vec<f32> = golden.flatten_all()?.to_vec1()?;
                expected.push((format!("{} {kind}", fixture.name), logits));
            }
        }
        kept.push(dir);
    }
    let Some(seen) = checked(&tasks) else {
        return Ok(());
    };
    for ((name, golden), seen) in expected.iter().zip(&seen) {
        assert_close(name, seen, golden, 1e-4);
    }
    Ok(())
}

/// Granite has no such class in transformers.
#[test]
fn transformers_gives_the_scores_of_a_saved_reward_model_of_every_family() -> Result<()> {
    let (mut kept, mut tasks, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for fixture in Fixture::all()? {
        let backbone = CausalLm::load(&fixture.folder)?;
        let head = ScalarHead::random(backbone.config().hidden_size, &Stream::new(3))?;
        let scored = ScoredModel::new(backbone, head)?;
        let dir = tempfile::tempdir().unwrap();
        scored.save(dir.path())?;
        // All but the first token of a row as a response: a score for each.
        let (rows, mut batch) = (fixture.rows()?, TokenBatch::new());
        for row in &rows {
            batch.push(&row[..1], &row[1..]);
        }
        let scores = scored.scores(&batch)?;
        assert_eq!(ScoredModel::load(dir.path())?.scores(&batch)?, scores);
        if fixture.name == "granite" {
            continue;
        }
        tasks.push(json!({"do": "scores", "folder": dir.path(), "rows": rows}));
        ours.push((fixture.name, rows, scores));
        kept.push(dir);
    }
    let Some(seen) = checked(&tasks) else {
        return Ok(());
    };
    for ((name, rows, scores), seen) in ours.iter().zip(&seen) {
        let mut rest = seen.as_slice();
        let mut responses = Vec::new();
        for row in rows {
            let (of_row, after) = rest.split_at(row.len());
            responses.extend_from_slice(&of_row[1..]);
            rest = after;
        }
        assert_close(name, &responses, scores, 1e-4);
    }
    Ok(())
}

#[test]
fn peft_reads_our_adapters_of_every_family() -> Result<()> {
    let (mut kept, mut tasks, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for fixture in Fixture::all()? {
        let rows = fixture.rows()?;
        let base = CausalLm::load(&fixture.folder)?;
        let mut policy = base.with_lora(&LoraConfig::default(), &Stream::new(1))?;
        for (at, value) in policy.parameters_mut().host_mut().iter_mut().enumerate() {
            *value += 0.1 * (0.7 * at as f32).sin();
        }
        let dir = tempfile::tempdir().unwrap();
        policy.save(dir.path())?;
        let (plain, adapted) = (logits(&base, &rows)?, logits(&policy, &rows)?);
        let moved = plain.iter().zip(&adapted).map(|(a, b)| (a - b).abs());
        assert!(moved.fold(0.0, f32::max) > 0.01, "{}", fixture.name);
        tasks.push(json!({
            "do": "adapted", "folder": fixture.folder, "adapter": dir.path(), "rows": rows,
        }));
        ours.push((fixture.name, adapted));
        kept.push(dir);
    }
    let Some(seen) = checked(&tasks) else {
        return Ok(());
    };
    for ((name, ours), seen) in ours.iter().zip(&seen) {
        assert_close(name, ours, seen, 1e-4);
    }
    Ok(())
}

#[test]
fn adapters_of_peft_load_in_every_family() -> Result<()> {
    let fixtures = Fixture::all()?;
    let dirs: Vec<_> = fixtures
        .iter()
        .map(|_| tempfile::tempdir().unwrap())
        .collect();
    let mut tasks = Vec::new();
    for (fixture, dir) in fixtures.iter().zip(&dirs) {
        tasks.push(json!({
            "do": "make", "folder": fixture.folder, "adapter": dir.path(), "targets": fixture.targets(),
            "rows": fixture.rows()?,
        }));
    }
    let Some(seen) = checked(&tasks) else {
        return Ok(());
    };
    for ((fixture, dir), seen) in fixtures.iter().zip(&dirs).zip(&seen) {
        let (rows, base) = (fixture.rows()?, CausalLm::load(&fixture.folder)?);
        // On the base that its own file names.
        let ours = logits(&CausalLm::load(dir.path())?, &rows)?;
        let plain = logits(&base, &rows)?;
        let moved = plain.iter().zip(&ours).map(|(a, b)| (a - b).abs());
        assert!(moved.fold(0.0, f32::max) > 0.01, "{}", fixture.name);
        assert_close(&fixture.name, &ours, seen, 1e-4);
    }
    Ok(())
}
