//! Differentiable operations over ragged batches.
//!
//! Axis legend: N tokens, C channels, H heads, K key/value heads, D head size, F feed-forward, V vocabulary, M chosen
//! positions. Formulas, memory and backward passes of all of them: docs/operations.md.

pub mod attention;
mod element;
pub mod embedding;
mod exp;
pub mod gather;
#[cfg(test)]
mod gradient_check;
mod lanes;
pub mod linear;
pub mod log_prob;
mod product;
pub mod rms_norm;
pub mod rope;
mod shape;
mod storage;
pub mod swiglu;

pub use attention::attention;
pub use embedding::embedding;
pub use gather::gather;
pub use linear::linear;
pub use log_prob::{LogProbs, log_probs};
pub use rms_norm::rms_norm;
pub use rope::rope;
pub use swiglu::swiglu;

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    /// One pass through all operations with shapes that a model has.
    #[test]
    fn the_operations_fit_together() -> crate::Result<()> {
        let device = Device::Cpu;
        let table = Tensor::randn(0f32, 1.0, (7, 8), &device)?;
        let ids = [1, 2, 6, 0, 3];
        let x = super::embedding(&table, &ids)?;
        let normed = super::rms_norm(&x, &Tensor::ones(8, x.dtype(), &device)?, 1e-5)?;
        let wide = super::linear(&normed, &Tensor::randn(0f32, 1.0, (16, 8), &device)?)?;
        let q = super::rope(&wide.reshape((5, 4, 4))?, &[0, 1, 2, 0, 1], 10_000.0)?;
        let kv = x.reshape((5, 2, 4))?;
        let mixed = super::attention(&q, &kv, &kv, &[0, 3, 5])?.reshape((5, 16))?;
        let gated = super::swiglu(&mixed, &mixed)?;
        let hidden = super::gather(&gated, &[1, 3])?.narrow(1, 0, 8)?;
        let out = super::log_probs(&hidden.contiguous()?, &table, &[2, 4], 1.0)?;
        assert_eq!(out.logprobs.dims(), [2]);
        assert!(out.entropy.to_vec1::<f32>()?.iter().all(|&h| h > 0.0));
        Ok(())
    }
}
