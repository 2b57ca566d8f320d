//! Student's t interval over the seeds' own values: what a handful of training runs says of training runs in general.
//!
//! A bootstrap over two to four seeds cannot draw a seed that was not run, and so covers too little. The t interval pays
//! for the unknown variance with its few degrees of freedom; it takes the seeds' values as roughly normal.

use super::intervals::{Interval, mean, standard_error};

/// The 97.5% quantiles of Student's t with 1, 2, … degrees of freedom.
const T_95: [f64; 19] = [
    12.706_204_736_174_694,
    4.302_652_729_749_462,
    3.182_446_305_283_708,
    2.776_445_105_197_793,
    2.570_581_835_636_315,
    2.446_911_851_144_979,
    2.364_624_251_592_784,
    2.306_004_135_204_166,
    2.262_157_162_798_205,
    2.228_138_851_986_274,
    2.200_985_160_091_639,
    2.178_812_829_667_228,
    2.160_368_656_462_791,
    2.144_786_687_917_804,
    2.131_449_545_559_776,
    2.119_905_299_221_254,
    2.109_815_577_833_316,
    2.100_922_040_241_038,
    2.093_024_054_408_309,
];

/// The 95% interval of the mean of `values`, one a seed; `None` below two and above twenty seeds (where the bootstrap over
/// seeds does well enough).
pub fn t_interval(values: &[f64]) -> Option<Interval> {
    let half = T_95.get(values.len().checked_sub(2)?)? * standard_error(values)?;
    let centre = mean(values)?;
    Some(Interval {
        low: centre - half,
        high: centre + half,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // from scipy import stats
    // [stats.t.ppf(0.975, d) for d in range(1, 20)]                                  # T_95
    // stats.ttest_1samp([0.03, 0.05, 0.01], 0).confidence_interval()                 # -0.0196827542350066 0.07968275423500659
    // Tolerance: rounding.
    #[test]
    fn agrees_with_scipy() {
        let found = t_interval(&[0.03, 0.05, 0.01]).unwrap();
        assert!((found.low + 0.019_682_754_235_006_6).abs() < 1e-12);
        assert!((found.high - 0.079_682_754_235_006_59).abs() < 1e-12);
        assert_eq!(t_interval(&[0.03]), None);
        assert_eq!(t_interval(&[]), None);
        assert_eq!(t_interval(&[0.0; 21]), None);
        assert!(t_interval(&[0.0; 20]).is_some());
    }
}
