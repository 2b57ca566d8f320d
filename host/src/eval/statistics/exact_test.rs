//! The exact two-sided binomial test at p = ½: the sign test of paired preferences, and McNemar's test of paired
//! right-or-wrong answers, which is the same test of the discordant pairs.

/// The p-value of `first` units that speak for one side and `second` for the other; units that speak for neither do not
/// count. Twice the smaller tail, at most 1; `None` where no unit speaks.
pub fn exact_sign_test(first: usize, second: usize) -> Option<f64> {
    let n = first + second;
    if n == 0 {
        return None;
    }
    // ln(C(n, k) / 2ⁿ), step by step in k: 2⁻ⁿ itself underflows beyond n = 1074.
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = log_term.exp();
    for k in 1..=first.min(second) {
        log_term += ((n - k + 1) as f64 / k as f64).ln();
        tail += log_term.exp();
    }
    Some((2.0 * tail).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    // from statsmodels.stats.contingency_tables import mcnemar
    // [mcnemar([[0, b], [c, 0]], exact=True).pvalue for b, c in [(3, 9), (40, 61), (6, 0)]]     # the values below
    // from scipy.stats import binomtest
    // for a, b in [(5, 0), (6, 0), (3, 9), (7, 7), (40, 61), (700, 800)]: print(binomtest(a, a + b).pvalue)
    #[test]
    fn p_values_are_those_of_scipy_and_of_mcnemar_in_statsmodels() {
        for (first, second, expected) in [
            (5, 0, 0.0625),
            (6, 0, 0.03125),
            (3, 9, 0.145_996_093_75),
            (7, 7, 1.0),
            (40, 61, 0.046_044_066_929_342_785),
            (700, 800, 0.010_559_255_466_711_506),
        ] {
            let found = exact_sign_test(first, second).unwrap();
            assert!(
                (found / expected - 1.0).abs() < 1e-9,
                "{first} {second}: {found}"
            );
            assert_eq!(exact_sign_test(second, first), Some(found));
        }
        assert_eq!(exact_sign_test(0, 0), None);
    }
}
