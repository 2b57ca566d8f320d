//! The optimizer on a GPU against the processor's.

use half::bf16;

use super::*;
use crate::device::{Device, Dtype};
use crate::model::parameters::ParameterSet;
use crate::ops::gradient_check::{wave, with_gpus};
use crate::pipeline::checkpoints::{
    CheckpointConfig, Checkpoints, Snapshot, parameters, restore_parameters,
};

#[derive(Clone)]
struct Sets(ParameterSet);

impl Trainable for Sets {
    fn parameter_sets(&self) -> Vec<(&ParameterSet, usize)> {
        vec![(&self.0, self.0.len())]
    }

    fn parameter_sets_mut(&mut self) -> Vec<&mut ParameterSet> {
        vec![&mut self.0]
    }
}

fn singles(count: usize, phase: f64) -> Vec<f32> {
    wave(count, phase).iter().map(|&x| x as f32).collect()
}

/// Matrices that decay and a vector that does not, of lengths that put the runs at odd places.
fn model() -> Result<Sets> {
    let shapes = [("a", vec![3, 7]), ("b", vec![13]), ("c", vec![33, 577])];
    let shapes = shapes.map(|(name, shape)| (name.to_owned(), shape));
    let set = ParameterSet::new(shapes, |name, shape| {
        Ok(singles(
            shape.iter().product(),
            f64::from(name.as_bytes()[0]),
        ))
    });
    Ok(Sets(set?))
}

fn config() -> OptimizerConfig {
    OptimizerConfig {
        beta2: 0.95,
        eps: 1e-5,
        weight_decay: 0.1,
        ..OptimizerConfig::default()
    }
}

/// Gathers the gradients of step `t`, steps, and returns the norm.
fn step(model: &mut Sets, optimizer: &mut AdamW, t: usize) -> Result<f64> {
    let grad = singles(model.0.len(), t as f64);
    match model.0.device() {
        Device::Cpu => optimizer.gradients().part(0).copy_from_slice(&grad),
        Device::Cuda(gpu) => optimizer.gradients().on_gpu(0).fill(&gpu, &grad)?,
    }
    optimizer.clip_and_step(model, 0.01)
}

/// Both compute in f32; they differ where one rounds a multiplication and an addition together.
#[test]
fn steps_are_the_processors_and_leave_no_gradients() -> Result<()> {
    with_gpus(|gpu| {
        let mut ours = Sets(model()?.0.to(&Device::Cuda(gpu.clone()))?);
        let mut theirs = model()?;
        let mut on_gpu = AdamW::new(&ours, &config())?;
        assert_eq!(
            on_gpu.moments[0].runs,
            [(21, true), (13, false), (33 * 577, true)]
        );
        let mut on_cpu = AdamW::new(&theirs, &config())?;
        for t in 0..6 {
            let norm = step(&mut ours, &mut on_gpu, t)?;
            let expected = step(&mut theirs, &mut on_cpu, t)?;
            assert!((norm / expected - 1.0).abs() < 1e-12, "{norm} {expected}");
            assert!(
                on_gpu
                    .gradients
                    .values(0)?
                    .iter()
                    .all(|&g| g.to_bits() == 0)
            );
        }
        let (found, expected) = (ours.0.values()?.into_owned(), theirs.0.values()?);
        let pairs = found.iter().zip(expected.iter());
        let worst = pairs.map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-6, "{worst}");
        let moments = [&on_gpu, &on_cpu].map(|optimizer| optimizer.moments[0].values.get());
        let [found, expected] = moments;
        for (found, expected) in found?.iter().zip(&expected?) {
            for (found, expected) in found.iter().zip(expected.iter()) {
                assert!((found - expected).abs() < 1e-8, "{found} {expected}");
            }
        }
        if gpu.dtype() == Dtype::Bf16 {
            let master = ours.0.values()?.into_owned();
            let rounded: Vec<f32> = master.iter().map(|&x| bf16::from_f32(x).to_f32()).collect();
            let copy = ours.0.train_on(gpu)?.copy.expect("a copy in bf16");
            let copy = copy.as_view().download_real(gpu)?;
            assert_eq!(copy, rounded, "what passes read is the rounded master copy");
        }
        Ok(())
    })
}

#[test]
fn a_saved_state_goes_on_with_the_same_bits() -> Result<()> {
    with_gpus(|gpu| {
        let device = Device::Cuda(gpu.clone());
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let config = CheckpointConfig::default();
            Checkpoints::open(folder.path(), &config, &|text| panic!("{text}"))
        };
        let mut straight = Sets(model()?.0.to(&device)?);
        let mut optimizer = AdamW::new(&straight, &config())?;
        for t in 0..5 {
            if t == 2 {
                let mut parts = parameters("model", &straight)?;
                parts.extend(optimizer.parts("optimizer")?);
                let state = optimizer.steps();
                open()?.save(2, folder.path(), Snapshot { state, parts })?;
            }
            step(&mut straight, &mut optimizer, t)?;
        }
        let checkpoints = open()?;
        let (steps, saved) = checkpoints.resume::<u64>()?.expect("a checkpoint");
        let mut resumed = Sets(model()?.0.to(&device)?);
        restore_parameters("model", &mut resumed, saved)?;
        assert!(resumed.0.device().is_cuda());
        let mut optimizer = AdamW::new(&resumed, &config())?;
        optimizer.restore("optimizer", steps, saved)?;
        for t in 2..5 {
            step(&mut resumed, &mut optimizer, t)?;
        }
        assert_eq!(straight.0.values()?, resumed.0.values()?);
        Ok(())
    })
}

#[test]
fn a_gradient_that_is_not_finite_touches_nothing() -> Result<()> {
    with_gpus(|gpu| {
        let mut model = Sets(model()?.0.to(&Device::Cuda(gpu.clone()))?);
        let before = model.0.values()?.into_owned();
        let mut optimizer = AdamW::new(&model, &config())?;
        let mut sums = optimizer.gradients().on_gpu(0);
        sums.again().into_part(4..5).fill(gpu, &[f32::NAN])?;
        assert!(optimizer.clip_and_step(&mut model, 0.01).is_err());
        assert_eq!(model.0.values()?, before);
        Ok(())
    })
}
