//! The Bradley-Terry model, which every reward scheme trained on pairs ends in.

/// The loss −log σ(d) of a pair whose rewards differ by d = R(chosen) − R(rejected), and its derivative −σ(−d).
///
/// Stable for every finite d: nothing overflows, and the loss of a large margin keeps its digits.
///
/// ```
/// let (loss, slope) = finegrain_sdk::preference::bradley_terry(0.0);
/// assert_eq!((loss, slope), (std::f64::consts::LN_2, -0.5));
/// ```
pub fn bradley_terry(difference: f64) -> (f64, f64) {
    // −log σ(d) = softplus(−d) = max(−d, 0) + ln(1 + e^−|d|).
    let loss = (-difference).max(0.0) + (-difference.abs()).exp().ln_1p();
    // e^d may be infinite: the derivative is then 0, as it should be.
    let slope = -1.0 / (1.0 + difference.exp());
    (loss, slope)
}

#[cfg(test)]
mod tests {
    use super::bradley_terry;

    // import torch; d = torch.tensor([-800., -3.5, 0., 0.25, 40.], dtype=torch.float64, requires_grad=True)
    // l = -torch.nn.functional.logsigmoid(d); l.sum().backward()
    // for a, b, c in zip(d.tolist(), l.tolist(), d.grad.tolist()): print(repr(a), repr(b), repr(c))
    #[expect(
        clippy::unreadable_literal,
        clippy::approx_constant,
        reason = "the digits as torch prints them"
    )]
    const TORCH: [(f64, f64, f64); 5] = [
        (-800.0, 800.0, -1.0),
        (-3.5, 3.5297504182726205, -0.9706877692486436),
        (0.0, 0.6931471805599453, -0.5),
        (0.25, 0.5759394198788436, -0.4378234991142019),
        (40.0, 4.248354255291589e-18, -4.248354255291589e-18),
    ];

    #[test]
    fn agrees_with_torch() {
        for (difference, loss, slope) in TORCH {
            let ours = bradley_terry(difference);
            assert!(
                (ours.0 - loss).abs() <= 1e-14 * loss,
                "{ours:?} for {difference}"
            );
            assert!(
                (ours.1 - slope).abs() <= 1e-14 * slope.abs(),
                "{ours:?} for {difference}"
            );
        }
    }

    #[test]
    fn is_finite_far_out() {
        for difference in [-1e300, -1e4, 1e4, 1e300] {
            let (loss, slope) = bradley_terry(difference);
            assert!(loss.is_finite() && (-1.0..=0.0).contains(&slope));
        }
    }
}
