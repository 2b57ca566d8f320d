//! Several tests at once: Holm's step-down correction (Holm 1979), which holds whatever the dependence between the tests.
//! Variants are compared with one baseline, so their tests do depend on each other.

/// The adjusted p-values, in the order of `raw`: reject where one is at most α, and the probability of any false rejection
/// is at most α. `raw` lies in [0, 1]; no adjusted value is below its raw one or above 1.
pub fn holm(raw: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..raw.len()).collect();
    order.sort_by(|&a, &b| raw[a].total_cmp(&raw[b]));
    let mut adjusted = vec![0.0; raw.len()];
    let mut least = 0.0_f64;
    for (rank, &at) in order.iter().enumerate() {
        least = least.max(raw[at] * (raw.len() - rank) as f64).min(1.0);
        adjusted[at] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    // from statsmodels.stats.multitest import multipletests
    // for p in ([0.01, 0.04, 0.03, 0.005], [0.02, 0.02, 1.0], [0.6, 0.7], [0.049]):
    //     print(multipletests(p, method="holm")[1])
    // Tolerance: rounding.
    #[test]
    fn agrees_with_statsmodels() {
        for (raw, expected) in [
            (
                &[0.01, 0.04, 0.03, 0.005][..],
                &[0.03, 0.06, 0.06, 0.02][..],
            ),
            (&[0.02, 0.02, 1.0], &[0.06, 0.06, 1.0]),
            (&[0.6, 0.7], &[1.0, 1.0]),
            (&[0.049], &[0.049]),
            (&[], &[]),
        ] {
            let found = holm(raw);
            assert_eq!(found.len(), expected.len());
            for (f, e) in found.iter().zip(expected) {
                assert!((f - e).abs() < 1e-12, "{found:?}");
            }
        }
    }
}
