//! The few vector kernels of the decoder, written so that the compiler vectorises them.
//!
//! Every result depends on its own inputs alone, never on how many rows are worked on together: that is what makes a
//! generated row independent of its batch, to the bit.

use crate::ops::Element;

/// How many partial sums a reduction keeps: one wide vector register of f32.
const LANES: usize = 16;

/// a · b + c, in one instruction where the machine has it; elsewhere a correctly rounded one would be a slow call.
#[inline]
pub(super) fn mul_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
        a.mul_add(b, c)
    } else {
        a * b + c
    }
}

/// Σ f(x), in an order that depends on the length alone.
#[inline]
fn sum_of(x: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let chunks = x.chunks_exact(LANES);
    for (i, value) in chunks.remainder().iter().enumerate() {
        lanes[i] = f(*value, lanes[i]);
    }
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = f(*value, *lane);
        }
    }
    lanes.iter().sum()
}

/// The largest value; NaN where there is one would be lost, so callers check the sum of the exponentials.
pub(super) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    for (lane, value) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = value.max(*lane);
    }
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = value.max(*lane);
        }
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// x ← exp((x − shift) · scale) and the sum of the results. An exponent below −87 gives about 1e-38 instead of 0.
pub(super) fn exp_sum(x: &mut [f32], shift: f32, scale: f32) -> f32 {
    for value in x.iter_mut() {
        *value = exp((*value - shift) * scale);
    }
    sum_of(x, |value, sum| value + sum)
}

/// x ← c · tanh(x · scale / c), in f32 as straight-line arithmetic.
pub(super) fn cap(x: &mut [f32], scale: f32, c: f32) {
    let inner = scale / c;
    for value in x {
        *value = c * Element::tanh(*value * inner);
    }
}

/// x ← x · (1 / divisor).
pub(super) fn divide(x: &mut [f32], divisor: f32) {
    let factor = 1.0 / divisor;
    for value in x {
        *value *= factor;
    }
}

/// out = x / √(mean(x²) + ε) · weight, all (C,).
pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let squares = sum_of(x, |value, sum| mul_add(value, value, sum));
    let scale = 1.0 / (squares / x.len() as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}

/// out = silu(gate) · up, where silu(g) = g / (1 + exp(−g)), all (F,).
pub(super) fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = gate / (1.0 + exp(-gate)) * up;
    }
}

/// x ← x + y.
pub(super) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// exp(x) to 2 units in the last place, without the branches that keep std's from being vectorised.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2; exp(r) is its Taylor polynomial of degree 7 (error below 1e-8 there), and 2ⁿ is
/// written into the exponent. The argument is cut to where 2ⁿ is a normal number; NaN stays NaN.
#[inline]
fn exp(x: f32) -> f32 {
    // Adding 1.5 · 2²³ rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = mul_add(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = mul_add(n, -LN_2_LOW, mul_add(n, -LN_2_HIGH, x));
    let mut series = 1.0 / 5040.0;
    for coefficient in [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        series = mul_add(series, r, coefficient);
    }
    let power = shifted
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
        .wrapping_add(127)
        << 23;
    series * f32::from_bits(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_the_library_over_its_range() {
        for step in -87_000..=88_000 {
            let x = step as f32 / 1000.0;
            let (ours, exact) = (f64::from(exp(x)), f64::from(x).exp());
            assert!(
                (ours / exact - 1.0).abs() < 2.5e-7,
                "exp({x}) = {ours}, not {exact}"
            );
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 2e-38);
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn reductions_see_every_element() {
        for length in [1, 15, 16, 17, 50] {
            let x: Vec<f32> = (0..length).map(|i| i as f32 - 8.0).collect();
            assert_eq!(max(&x), x[length - 1]);
            assert_eq!(sum_of(&x, |value, sum| value + sum), x.iter().sum::<f32>());
            let mut e = x.clone();
            let sum = exp_sum(&mut e, 1.0, 0.5);
            let exact: f64 = x.iter().map(|&v| ((f64::from(v) - 1.0) / 2.0).exp()).sum();
            assert!((f64::from(sum) / exact - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn a_cap_bounds_what_was_scaled() {
        let mut x = [0.0, 4.0, -4.0, 1e9];
        cap(&mut x, 0.5, 2.0);
        let expected = 2.0 * 1f32.tanh();
        assert!((x[1] - expected).abs() < 1e-6 && x[2] == -x[1], "{x:?}");
        assert_eq!((x[0], x[3]), (0.0, 2.0));
    }

    #[test]
    fn the_norm_and_the_gate_have_their_values() {
        let mut out = [0.0; 2];
        // mean(9, 16) = 12.5.
        rms_norm(&[3.0, 4.0], &[1.0, 2.0], 0.0, &mut out);
        let root = 12.5f32.sqrt();
        assert!((out[0] - 3.0 / root).abs() < 1e-6 && (out[1] - 8.0 / root).abs() < 1e-6);
        // silu(1) = 0.731058579, silu(−2) = −0.238405844.
        swiglu(&[1.0, -2.0], &[2.0, 1.0], &mut out);
        assert!((out[0] - 1.462_117_2).abs() < 1e-6 && (out[1] + 0.238_405_84).abs() < 1e-6);
    }
}
