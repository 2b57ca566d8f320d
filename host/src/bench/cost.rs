//! The least arithmetic and the least memory traffic of a workload; docs/performance.md has the same formulas.
//!
//! A multiply-add is two operations. Norms, rotations, activations and the softmax are left out: they are small beside the
//! products. Rows have T tokens; a token attends to itself and those before it.
//!
//! Legend: B rows, T tokens a row, C channels, H heads, K key/value heads, D head size, F feed-forward, V vocabulary, W
//! elements of a layer's matrices.

use super::shape::{Batch, Shape};

/// Bytes of an f32: gradients of weights, moments and master weights, whatever the device.
const F32: u64 = 4;

/// What decides the cost beside sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Bytes of a weight that passes read, and of an activation.
    pub element: u64,
    /// Whether adapters are trained on frozen weights. Their own products and traffic are small and left out.
    pub adapters: bool,
}

impl Form {
    /// Passes of a training step as multiples of a forward pass: forward, gradients of activations, gradients of weights.
    fn passes(self) -> u64 {
        if self.adapters { 2 } else { 3 }
    }

    /// Bytes that a step moves for a parameter: weights read forward and backward; where they are trained, a gradient
    /// written, AdamW reading four values and writing three, and beside an f32 master the copy that passes read.
    fn bytes_of_step(self) -> u64 {
        let copy = if self.element == F32 { 0 } else { self.element };
        2 * self.element + if self.adapters { 0 } else { 8 * F32 + copy }
    }

    /// Bytes that a parameter of a trained model takes: value (and master beside a copy), gradient and moments.
    fn bytes_held(self) -> u64 {
        let copy = if self.element == F32 { 0 } else { self.element };
        if self.adapters {
            self.element
        } else {
            4 * F32 + copy
        }
    }
}

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

/// Forward, backward and AdamW step of the next-token loss. Backward is twice the forward, or once where the weights are
/// frozen.
pub fn train(shape: &Shape, batch: Batch, form: Form) -> Cost {
    let Batch { rows, length, .. } = batch;
    let (parameters, kept) = (shape.parameters(), kept(shape, batch.tokens()));
    Cost {
        flops: form.passes() * forward_flops(shape, rows, length, rows * (length - 1)),
        bytes: form.bytes_of_step() * parameters + 2 * form.element * kept,
        working_set: form.bytes_held() * parameters + form.element * kept,
    }
}

/// Sampling what follows every row's prompt. The last token is sampled and never fed. Every new token reads all matrices and
/// the head once for all rows together, with so many `bits` a weight, and the keys and values of its row.
pub fn generate(shape: &Shape, batch: Batch, bits: u64, form: Form) -> Cost {
    let (prompt, new) = (batch.prompt as u64, batch.new_tokens() as u64);
    let (rows, fed) = (batch.rows as u64, batch.length as u64 - 1);
    let head = (shape.vocabulary * shape.channels) as u64;
    let weights = shape.layers as u64 * shape.layer_weights() + head;
    let weight_bytes = weights * bits / 8;
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
        bytes: new * weight_bytes + form.element * rows * cached * (fed + read),
        working_set: weight_bytes + form.element * rows * cached * fed,
    }
}

/// One iteration: sampling; a pass of the reference, the critic and the reward model each; then, per epoch, forward,
/// backward and AdamW step of the policy (its head at the sampled tokens alone) and of the critic. The probabilities at
/// which the tokens were sampled are known from sampling.
pub fn ppo(shape: &Shape, batch: Batch, form: Form) -> Cost {
    let Batch { rows, length, .. } = batch;
    let sampled = rows * batch.new_tokens();
    let (policy, scored) = (
        forward_flops(shape, rows, length, sampled),
        forward_flops(shape, rows, length, 0),
    );
    let sampling = generate(shape, batch, 8 * form.element, form);
    let step = train(shape, batch, form);
    let parameters = form.element * shape.parameters();
    let epochs = PPO_EPOCHS as u64;
    let updates = epochs * form.passes() * (policy + scored);
    Cost {
        flops: sampling.flops + policy + 2 * scored + updates,
        bytes: sampling.bytes + 3 * parameters + epochs * 2 * step.bytes,
        working_set: if form.adapters {
            // One set of weights for all roles, what one backward pass needs.
            step.working_set
        } else {
            // Four models, gradients and moments of two of them, what one backward pass needs.
            step.working_set + 2 * parameters + form.bytes_held() * shape.parameters()
        },
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

    const PLAIN: Form = Form {
        element: 4,
        adapters: false,
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
        let batch = Batch::new(5, 4);
        let forward = |length: u64, pairs: u64, heads: u64| {
            2 * (5 * length * 2 * 84 + 5 * pairs * 16) + heads * 80
        };
        assert_eq!(train(&SHAPE, batch, PLAIN).flops, 3 * forward(4, 10, 15));
        // Parameters: 40 + 2·(84 + 8) + 4 = 228; kept: 20 tokens · 2 layers · (16 + 4 + 6).
        assert_eq!(train(&SHAPE, batch, PLAIN).bytes, 4 * (2280 + 2 * 1040));
        assert_eq!(train(&SHAPE, batch, PLAIN).working_set, 4 * (912 + 1040));

        // Weights 2·84 + 40; 2·2·1·2 = 8 cached a token; the token at position 2 reads 3.
        assert_eq!(
            generate(&SHAPE, batch, 32, PLAIN),
            Cost {
                flops: forward(3, 6, 10),
                bytes: 4 * (2 * 208 + 5 * 8 * (3 + 3)),
                working_set: 4 * (208 + 5 * 8 * 3),
            }
        );
        let (policy, scored) = (forward(4, 10, 10), forward(4, 10, 0));
        // Of the weights, 208 · 9 / 8 bytes.
        let q8 = generate(&SHAPE, batch, 9, PLAIN);
        assert_eq!(q8.bytes, 2 * 234 + 4 * 5 * 8 * 6);
        assert_eq!(q8.working_set, 234 + 4 * 5 * 8 * 3);
        let sampling = generate(&SHAPE, batch, 32, PLAIN);
        assert_eq!(
            ppo(&SHAPE, batch, PLAIN),
            Cost {
                flops: sampling.flops + policy + 2 * scored + 6 * (policy + scored),
                bytes: sampling.bytes + 3 * 912 + 4 * 4 * 4360,
                // Two trained models of 228 · 16 bytes, two that are not, what a backward pass needs.
                working_set: 4 * 1952 + 4 * 912 + 2 * 912,
            }
        );
    }

    #[test]
    fn halves_and_adapters_by_hand() {
        let batch = Batch::new(5, 4);
        let half = Form {
            element: 2,
            adapters: false,
        };
        // 228 parameters: 2·2 read, 4 + 16 + 12 in f32, 2 for the copy; 1040 kept elements written and read.
        assert_eq!(train(&SHAPE, batch, half).bytes, 38 * 228 + 4 * 1040);
        assert_eq!(train(&SHAPE, batch, half).working_set, 18 * 228 + 2 * 1040);
        let lora = Form {
            element: 2,
            adapters: true,
        };
        let plain = train(&SHAPE, batch, PLAIN);
        let frozen = train(&SHAPE, batch, lora);
        assert_eq!(3 * frozen.flops, 2 * plain.flops);
        assert_eq!(frozen.bytes, 4 * 228 + 4 * 1040);
        // One copy of the weights for four roles.
        assert_eq!(ppo(&SHAPE, batch, lora).working_set, 2 * 228 + 2 * 1040);
    }
}
