//! Adapters on a real checkpoint: PEFT reads ours and we read PEFT's, and four roles stand on one copy of the weights.

use std::path::Path;

use finegrain::Result;
use finegrain::data::ragged::TokenBatch;
use finegrain::model::{CausalLm, LoraConfig, Read, ScalarHead, ScoredModel};
use finegrain_sdk::rng::Stream;
use finegrain_tests::shared;
use serde_json::Value;

use crate::python::python;

const IDS: [u32; 12] = [1, 403, 407, 261, 378, 46, 51, 400, 392, 282, 500, 17];

fn stories() -> Option<CausalLm> {
    let dir = shared("models/stories260k")?;
    Some(CausalLm::load(&dir).expect("the small checkpoint"))
}

/// The adapter's parameters away from their start, where B is 0 and nothing would be seen.
fn shake(model: &mut CausalLm) {
    let values = model.parameters_mut().host_mut().iter_mut();
    for (i, value) in values.enumerate() {
        *value += 0.05 * (0.7 * i as f32).sin();
    }
}

fn batch() -> TokenBatch {
    let mut batch = TokenBatch::new();
    batch.push(&IDS[..1], &IDS[1..]);
    batch
}

/// What PEFT says of the adapter in `folder`; `None` where there is no Python with PEFT.
fn peft(folder: &Path, out: Option<&Path>) -> Option<Value> {
    let ids = serde_json::to_string(&IDS).expect("numbers");
    let args = [
        Some(folder.as_os_str()),
        Some(ids.as_ref()),
        out.map(Path::as_os_str),
    ];
    python("adapter.py", args.into_iter().flatten(), None)
}

fn assert_close(seen: &Value, ours: &[f32]) {
    let rows = seen.as_array().expect("rows");
    let numbers = rows.iter().flat_map(|row| row.as_array().expect("a row"));
    let seen: Vec<f64> = numbers.filter_map(Value::as_f64).collect();
    assert_eq!(seen.len(), ours.len());
    for (seen, ours) in seen.iter().zip(ours) {
        assert!((seen - f64::from(*ours)).abs() < 1e-4, "{seen} {ours}");
    }
}

#[test]
fn peft_reads_our_adapters_and_we_read_its() -> Result<()> {
    let Some(base) = stories() else { return Ok(()) };
    let config = LoraConfig {
        rank: 3,
        alpha: 5.0,
        ..LoraConfig::default()
    };
    let mut policy = base.with_lora(&config, &Stream::new(1))?;
    shake(&mut policy);
    let dir = tempfile::tempdir().unwrap();
    policy.save(dir.path())?;
    let logits =
        |model: &CausalLm| Ok::<_, finegrain::Error>(model.logits(&batch(), Read::All)?.concat());
    let ours = logits(&policy)?;
    let plain = logits(&base)?;
    assert!(ours.iter().zip(&plain).any(|(a, b)| (a - b).abs() > 0.1));
    assert_eq!(logits(&CausalLm::load(dir.path())?)?, ours);
    let theirs = tempfile::tempdir().unwrap();
    if let Some(seen) = peft(dir.path(), Some(theirs.path())) {
        assert_close(&seen["values"], &ours);
        let read = CausalLm::load(theirs.path())?;
        assert_close(&seen["changed"], &logits(&read)?);
    }

    let head = ScalarHead::random(base.config().hidden_size, &Stream::new(2))?;
    let scored = ScoredModel::new(policy, head).unwrap();
    let dir = tempfile::tempdir().unwrap();
    scored.save(dir.path())?;
    let ours = scored.scores(&batch())?;
    assert_eq!(ScoredModel::load(dir.path())?.scores(&batch())?, ours);
    if let Some(seen) = peft(dir.path(), None) {
        let scores = seen["values"].as_array().expect("a score for every token");
        assert_close(&scores[1..].to_vec().into(), &ours);
    }
    Ok(())
}

/// Policy, reference, reward model and critic, each loaded from a folder of its own.
#[test]
fn four_roles_share_one_copy_of_the_weights() -> Result<()> {
    let Some(base) = stories() else { return Ok(()) };
    let policy = base.with_lora(&LoraConfig::default(), &Stream::new(1))?;
    let head = ScalarHead::random(base.config().hidden_size, &Stream::new(2))?;
    let scored = ScoredModel::new(policy.clone(), head).unwrap();
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    policy.save(first.path())?;
    scored.save(second.path())?;
    let reference = CausalLm::load(first.path())?;
    let mut trained = reference.clone();
    shake(&mut trained);
    let reward_model = ScoredModel::load(second.path())?;
    let mut critic = reward_model.clone();
    shake(&mut critic.backbone);
    for other in [&trained, &reward_model.backbone, &critic.backbone] {
        assert!(other.weights().shares_memory_with(reference.weights()));
    }
    assert_ne!(
        trained.parameters().values().unwrap(),
        reference.parameters().values().unwrap()
    );
    Ok(())
}
