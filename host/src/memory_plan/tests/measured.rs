//! What passes take, against what is planned for them.

use super::*;

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
        let mut backbone = CausalLm::new(config.clone(), &Stream::new(1)).unwrap();
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
            let mut backbone = CausalLm::new(config.clone(), &Stream::new(1)).unwrap();
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
