//! The whole model's gradients against central differences in f64, for all that a pass can be asked to do.

use std::sync::Arc;

use finegrain_sdk::rng::Stream;

use super::*;
use crate::model::lora::{Adapter, LoraConfig, Target};
use crate::model::{CausalLm, fixture};
use crate::ops::gradient_check::wave;

/// A model in f64, and an adapter's values where it has one.
struct Subject {
    config: CausalLmConfig,
    values: Vec<f64>,
    adapter: Option<(Adapter, Vec<f64>)>,
    recompute: bool,
    /// Whether the weights are laid out once for all chunks.
    laid_out: bool,
    pool: Arc<Pool<f64>>,
}

impl Subject {
    fn new(adapter: Option<LoraConfig>) -> Result<Self> {
        let model: CausalLm = fixture::model(true)?;
        let double = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let adapter = adapter.map(|config| {
            let adapter = Adapter::new(&config, model.config(), &Stream::new(5)).unwrap();
            // B is not 0, or A would have no gradient.
            let values = wave(adapter.parameters().len(), 0.4);
            (adapter, values.iter().map(|x| 0.3 * x).collect())
        });
        Ok(Self {
            config: model.config().clone(),
            values: double(model.weights().host()),
            adapter,
            recompute: false,
            laid_out: true,
            pool: Arc::default(),
        })
    }

    fn pass(&self, batch: &TokenBatch, read: Read, keep: bool) -> Result<Pass<f64>> {
        let prepared = prepare(batch, read, &self.config)?;
        Ok(Pass::forward(&self.network(), prepared, keep))
    }

    fn network(&self) -> Network<'_, f64> {
        let adapter = self.adapter.as_ref();
        let adapter = adapter.map(|(adapter, values)| (adapter, &values[..]));
        let network = Network::new(
            &self.config,
            (&self.values, adapter),
            self.config.max_position_embeddings,
            self.recompute,
            &self.pool,
        );
        if self.laid_out {
            network.laid_out(Way::Forwards).laid_out(Way::Backwards)
        } else {
            network
        }
    }

    /// Σ hidden · wave.
    fn loss(&self, batch: &TokenBatch, read: Read) -> Result<f64> {
        let pass = self.pass(batch, read, false)?;
        let weights = wave(pass.hidden().len(), 0.3);
        Ok(pass.hidden().iter().zip(weights).map(|(h, w)| h * w).sum())
    }

    fn gradients(&self, batch: &TokenBatch, read: Read) -> Result<Vec<f64>> {
        let pass = self.pass(batch, read, true)?;
        let d_hidden = wave(pass.hidden().len(), 0.3);
        let trained = self
            .adapter
            .as_ref()
            .map_or(&self.values, |(_, values)| values);
        let mut gradients = vec![0.0; trained.len()];
        let into = match self.adapter {
            Some(_) => NetworkGradients::Adapter(&mut gradients),
            None => NetworkGradients::Weights(&mut gradients),
        };
        pass.backward(&self.network(), &d_hidden, into);
        Ok(gradients)
    }

    fn trained_mut(&mut self) -> &mut Vec<f64> {
        match &mut self.adapter {
            Some((_, values)) => values,
            None => &mut self.values,
        }
    }

    /// Compares every `stride`th gradient with a difference.
    fn check(&mut self, batch: &TokenBatch, read: Read, stride: usize) -> Result<()> {
        const STEP: f64 = 1e-5;
        let gradients = self.gradients(batch, read)?;
        for at in (0..gradients.len()).step_by(stride) {
            let value = self.trained_mut()[at];
            self.trained_mut()[at] = value + STEP;
            let above = self.loss(batch, read)?;
            self.trained_mut()[at] = value - STEP;
            let below = self.loss(batch, read)?;
            self.trained_mut()[at] = value;
            let (found, expected) = (gradients[at], (above - below) / (2.0 * STEP));
            let tolerance = 1e-6 * found.abs().max(expected.abs()).max(1e-1);
            assert!(
                (found - expected).abs() <= tolerance,
                "value {at}: gradient {found}, difference {expected}, {read:?}"
            );
        }
        Ok(())
    }
}

/// Rows that make several chunks, one of them of a single long row.
fn long_batch(config: &mut CausalLmConfig) -> TokenBatch {
    config.max_position_embeddings = 400;
    let ids = |start: u32, count: u32| (0..count).map(|i| (start + i * i) % 11).collect::<Vec<_>>();
    let mut batch = TokenBatch::new();
    for (row, (prompt, response)) in [(90, 60), (100, 30), (20, 280), (3, 5)]
        .into_iter()
        .enumerate()
    {
        batch.push(&ids(row as u32, prompt), &ids(7, response));
    }
    batch
}

#[test]
fn gradients_of_all_weights_agree_with_differences() -> Result<()> {
    let mut subject = Subject::new(None)?;
    for read in [Read::All, Read::Predicting, Read::Responses] {
        subject.check(&fixture::batch(), read, 1)?;
    }
    let batch = long_batch(&mut subject.config);
    subject.check(&batch, Read::Predicting, 37)
}

#[test]
fn gradients_of_adapters_agree_with_differences() -> Result<()> {
    for targets in [Target::USUAL.to_vec(), vec![Target::VProj, Target::QProj]] {
        let config = LoraConfig {
            rank: 2,
            alpha: 3.0,
            targets,
        };
        let mut subject = Subject::new(Some(config))?;
        for read in [Read::All, Read::Predicting] {
            subject.check(&fixture::batch(), read, 1)?;
        }
        let batch = long_batch(&mut subject.config);
        subject.check(&batch, Read::Responses, 11)?;
    }
    Ok(())
}

#[test]
fn large_weights_are_multiplied_as_they_are() -> Result<()> {
    for adapter in [None, Some(LoraConfig::default())] {
        let mut subject = Subject::new(adapter)?;
        let batch = long_batch(&mut subject.config);
        let laid_out = subject.gradients(&batch, Read::Predicting)?;
        subject.laid_out = false;
        let as_they_are = subject.gradients(&batch, Read::Predicting)?;
        for (a, b) in laid_out.iter().zip(&as_they_are) {
            assert!((a - b).abs() <= 1e-11 * b.abs().max(1.0), "{a} {b}");
        }
    }
    Ok(())
}

#[test]
fn computing_activations_again_gives_the_same_bits() -> Result<()> {
    for adapter in [None, Some(LoraConfig::default())] {
        let mut subject = Subject::new(adapter)?;
        let batch = long_batch(&mut subject.config);
        let kept = subject.gradients(&batch, Read::Predicting)?;
        subject.recompute = true;
        assert_eq!(subject.gradients(&batch, Read::Predicting)?, kept);
    }
    Ok(())
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() -> Result<()> {
    let mut subject = Subject::new(None)?;
    let batch = long_batch(&mut subject.config);
    for laid_out in [true, false] {
        subject.laid_out = laid_out;
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap()
                .install(|| subject.gradients(&batch, Read::Predicting))
        };
        let alone = run(1)?;
        assert_eq!(run(2)?, alone);
        assert_eq!(run(7)?, alone);
    }
    Ok(())
}

#[test]
fn gradients_are_added_to_what_is_there() -> Result<()> {
    let subject = Subject::new(None)?;
    let once = subject.gradients(&fixture::batch(), Read::All)?;
    let mut twice = once.clone();
    let pass = subject.pass(&fixture::batch(), Read::All, true)?;
    let d_hidden = wave(pass.hidden().len(), 0.3);
    pass.backward(
        &subject.network(),
        &d_hidden,
        NetworkGradients::Weights(&mut twice),
    );
    for (twice, once) in twice.iter().zip(&once) {
        assert!((twice - 2.0 * once).abs() <= 1e-12 * once.abs().max(1.0));
    }
    Ok(())
}

/// What is read does not depend on what else is read or goes through.
#[test]
fn pruning_changes_no_hidden_state() -> Result<()> {
    let mut subject = Subject::new(None)?;
    let batch = long_batch(&mut subject.config);
    let c = subject.config.hidden_size;
    let all = subject.pass(&batch, Read::All, false)?.hidden().to_vec();
    for (read, positions) in [
        (Read::Responses, batch.response_positions()),
        (Read::Predicting, batch.prediction_positions()),
    ] {
        for keep in [false, true] {
            let found = subject.pass(&batch, read, keep)?.hidden().to_vec();
            for (found, &at) in found.chunks_exact(c).zip(&positions) {
                let expected = &all[at as usize * c..][..c];
                let pairs = found.iter().zip(expected);
                pairs.for_each(|(f, e)| assert!((f - e).abs() < 1e-12, "{read:?}: {f} {e}"));
            }
        }
    }
    Ok(())
}

#[test]
fn an_empty_batch_goes_through_and_back() -> Result<()> {
    let subject = Subject::new(None)?;
    let mut batch = TokenBatch::new();
    batch.push(&[1, 2], &[]);
    let gradients = subject.gradients(&batch, Read::Predicting)?;
    assert!(gradients.iter().all(|&g| g == 0.0));
    Ok(())
}
