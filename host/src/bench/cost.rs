//! The least arithmetic and the least memory traffic of a workload; docs/performance.md has the same formulas.
//!
//! A multiply-add is two operations. Norms, rotations, activations and the softmax are left out: they are small beside the
//! products. Rows have T tokens; a token attends to itself and those before it.
//!
//! Legend: B rows, T tokens a row, C channels, H heads, K key/value heads, D head size, F feed-forward, V vocabulary, W
//! elements of a layer's matrices.

use super::shape::{Batch, Shape};
use crate::model::SamplingWeights;

/// Bytes of an f32.
const F32: u64 = 4;

/// Passes over a rollout in the PPO workload.
pub(super) const PPO_EPOCHS: usize = 2;

/// What a workload takes at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes that are read or written.
    pub bytes: u64,
    /// Distinct bytes among them: what decides in which cache they can stay.
    pub working_set: u64,
}

/// Operations of a forward pass over `rows` of `length` tokens, of which `predicted` positions go through the head.
pub fn forward_flops(shape: &Shape, rows: usize, length: usize, predicted: usize) -> u64 {
    let (rows, length, predicted) = (rows as u64, length as u64, predicted as u64);
    let (c, v) = (shape.channels as u64, shape.vocabulary as u64);
    let products = 2 * rows * length * shape.layer_weights();
    // Scores and mixed values: 4·D per head and pair of a query with a key, T(T + 1)/2 pairs a row.
    let attention = 2 * rows * length * (length + 1) * c;
    shape.layers as u64 * (products + attention) + 2 * predicted * v * c
}

/// Elements that a forward pass has to leave for the backward pass: per token and layer the two inputs from the residual
/// stream (2·C), queries and the attention's result (2·C), keys and values (2·K·D), gate and up (2·F). What can be computed
/// again from them on the way is not counted.
fn kept(shape: &Shape, tokens: usize) -> u64 {
    let layer =
        4 * shape.channels + 2 * shape.kv_heads * shape.head_size() + 2 * shape.feed_forward;
    (tokens * shape.layers * layer) as u64
}

/// Forward, backward and AdamW step of the next-token loss. Backward is twice the forward; it reads the weights again and
/// writes a gradient; AdamW reads four values a parameter and writes three.
pub fn train(shape: &Shape, batch: Batch) -> Cost {
    let Batch { rows, length } = batch;
    let (parameters, kept) = (shape.parameters(), kept(shape, batch.tokens()));
    Cost {
        flops: 3 * forward_flops(shape, rows, length, rows * (length - 1)),
        bytes: F32 * (10 * parameters + 2 * kept),
        working_set: F32 * (4 * parameters + kept),
    }
}

/// Sampling the second half of every row. The last token is sampled and never fed. Every new token reads all matrices and
/// the head once for all rows together, in their format, and the keys and values of its row, f32.
pub fn generate(shape: &Shape, batch: Batch, format: SamplingWeights) -> Cost {
    let (prompt, new) = (batch.prompt() as u64, batch.new_tokens() as u64);
    let (rows, fed) = (batch.rows as u64, batch.length as u64 - 1);
    let head = (shape.vocabulary * shape.channels) as u64;
    let weights = shape.layers as u64 * shape.layer_weights() + head;
    let weight_bytes = weights * format.bits() as u64 / 8;
    let cached = (2 * shape.layers * shape.kv_heads * shape.head_size()) as u64; // a token
    // The tokens at positions prompt..fed attend to 1 more than their position.
    let read: u64 = (prompt..fed).map(|position| position + 1).sum();
    Cost {
        flops: forward_flops(
            shape,
            batch.rows,
            batch.length - 1,
            batch.rows * batch.new_tokens(),
        ),
        bytes: new * weight_bytes + F32 * rows * cached * (fed + read),
        working_set: weight_bytes + F32 * rows * cached * fed,
    }
}

/// One iteration: sampling; a pass of the reference, the critic and the reward model each; then, per epoch, forward,
/// backward and AdamW step of the policy (its head at the sampled tokens alone) and of the critic. The probabilities at
/// which the tokens were sampled are known from sampling.
pub fn ppo(shape: &Shape, batch: Batch) -> Cost {
    let Batch { rows, length } = batch;
    let sampled = rows * batch.new_tokens();
    let (policy, scored) = (
        forward_flops(shape, rows, length, sampled),
        forward_flops(shape, rows, length, 0),
    );
    let sampling = generate(shape, batch, SamplingWeights::F32);
    let step = train(shape, batch);
    let parameters = F32 * shape.parameters();
    let epochs = PPO_EPOCHS as u64;
    Cost {
        flops: sampling.flops + policy + 2 * scored + epochs * 3 * (policy + scored),
        bytes: sampling.bytes + 3 * parameters + epochs * 2 * step.bytes,
        // Four models, gradients and moments of two of them, what one backward pass needs.
        working_set: step.working_set + 6 * parameters,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        vocabulary: 10,
        channels: 4,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        feed_forward: 3,
        tied: true,
    };

    /// W = q 4·4 + k 4·2 + v 4·2 + o 4·4 + gate, up, down 3·4·3 = 84.
    #[test]
    fn forward_by_hand() {
        assert_eq!(SHAPE.layer_weights(), 84);
        // One row of 3: products 2·3·84 = 504 a layer; pairs 6 of 2 heads at 4·2 = 96; head 2·2·10·4 = 160 at 2 positions.
        assert_eq!(forward_flops(&SHAPE, 1, 3, 2), 2 * (504 + 96) + 160);
    }

    #[test]
    fn workloads_by_hand() {
        // 4 tokens a row: prompt 2, new 2, fed 3.
        let batch = Batch { rows: 5, length: 4 };
        let forward = |length: u64, pairs: u64, heads: u64| {
            2 * (5 * length * 2 * 84 + 5 * pairs * 16) + heads * 80
        };
        assert_eq!(train(&SHAPE, batch).flops, 3 * forward(4, 10, 15));
        // Parameters: 40 + 2·(84 + 8) + 4 = 228; kept: 20 tokens · 2 layers · (16 + 4 + 6).
        assert_eq!(train(&SHAPE, batch).bytes, 4 * (2280 + 2 * 1040));
        assert_eq!(train(&SHAPE, batch).working_set, 4 * (912 + 1040));

        // Weights 2·84 + 40; 2·2·1·2 = 8 cached a token; the token at position 2 reads 3.
        assert_eq!(
            generate(&SHAPE, batch, SamplingWeights::F32),
            Cost {
                flops: forward(3, 6, 10),
                bytes: 4 * (2 * 208 + 5 * 8 * (3 + 3)),
                working_set: 4 * (208 + 5 * 8 * 3),
            }
        );
        let (policy, scored) = (forward(4, 10, 10), forward(4, 10, 0));
        // Of the weights, 208 · 9 / 8 bytes.
        let q8 = generate(&SHAPE, batch, SamplingWeights::Q8);
        assert_eq!(q8.bytes, 2 * 234 + 4 * 5 * 8 * 6);
        assert_eq!(q8.working_set, 234 + 4 * 5 * 8 * 3);
        let sampling = generate(&SHAPE, batch, SamplingWeights::F32);
        assert_eq!(
            ppo(&SHAPE, batch),
            Cost {
                flops: sampling.flops + policy + 2 * scored + 6 * (policy + scored),
                bytes: sampling.bytes + 3 * 912 + 4 * 4 * 4360,
                working_set: 4 * 1952 + 6 * 912,
            }
        );
    }
}
