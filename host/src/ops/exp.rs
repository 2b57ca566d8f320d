//! e^x and tanh x in f32 as straight-line arithmetic, so that loops over them vectorise (a call into the C library does not).
//!
//! x = n · ln 2 + r with n whole and |r| ≤ ln 2 / 2; e^x = 2ⁿ · e^r, and e^r is its Taylor polynomial of degree 7, whose
//! remainder |r|⁸/8! < 5.3e-9 is a tenth of a unit in the last place. Off by at most 2 units in the last place.
//!
//! tanh x = 1 − 2 / (e^2x + 1) for x ≥ 0.625; below, where that would lose digits, the odd polynomial of the Cephes library's
//! `tanhf` (Moshier 1989). Both are computed and one is chosen. Off by at most 3 units in the last place.

use super::element::Element;

/// Adding 1.5 · 2²³ leaves the nearest whole number in the low bits of the mantissa.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts; the first has 9 significant bits, so n times it is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Above this e^x is +∞ in f32, below the other it is 0.
const HIGHEST: f32 = 89.0;
const LOWEST: f32 = -105.0;

/// e^x; NaN stays NaN, −∞ gives 0, +∞ gives +∞.
#[inline]
pub(super) fn exp(x: f32) -> f32 {
    // Comparisons rather than `clamp`: these keep a NaN and become one instruction each.
    let x = if x < LOWEST { LOWEST } else { x };
    let x = if x > HIGHEST { HIGHEST } else { x };
    let shifted = x.fma(std::f32::consts::LOG2_E, ROUND);
    let whole = shifted - ROUND;
    let r = whole.fma(-LN2_HIGH, x);
    let r = whole.fma(-LN2_LOW, r);
    let polynomial = (1.0f32 / 5040.0)
        .fma(r, 1.0 / 720.0)
        .fma(r, 1.0 / 120.0)
        .fma(r, 1.0 / 24.0)
        .fma(r, 1.0 / 6.0)
        .fma(r, 0.5)
        .fma(r, 1.0)
        .fma(r, 1.0);
    // 2ⁿ in two factors: n runs from −152 to 128, beyond the exponents of one f32 at both ends.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    polynomial * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// tanh x; NaN stays NaN, ±∞ gives ±1.
#[inline]
pub(super) fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let square = x * x;
    let polynomial = (-5.704_988_7e-3f32)
        .fma(square, 2.063_908_8e-2)
        .fma(square, -5.373_971_5e-2)
        .fma(square, 1.333_144_2e-1)
        .fma(square, -3.333_328e-1);
    let small = (polynomial * square).fma(size, size);
    let large = 1.0 - 2.0 / (exp(2.0 * size) + 1.0);
    let result = if size < 0.625 { small } else { large };
    result.copysign(x)
}

#[inline]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

#[cfg(test)]
mod tests {
    use super::{exp, tanh};

    /// Distance in units in the last place of the correctly rounded value.
    fn ulps(x: f32) -> f64 {
        distance(exp(x), f64::from(x).exp())
    }

    fn distance(found: f32, exact: f64) -> f64 {
        let rounded = exact as f32;
        let unit = f64::from(f32::from_bits(rounded.to_bits() + 1)) - f64::from(rounded);
        (f64::from(found) - exact).abs() / unit.abs()
    }

    #[test]
    fn two_units_in_the_last_place_at_most() {
        let mut worst: f64 = 0.0;
        let mut x = -87.3f32;
        while x < 88.7 {
            worst = worst.max(ulps(x));
            x += 0.000_37;
        }
        let mut tiny = 1e-30f32;
        while tiny < 1.0 {
            worst = worst.max(ulps(tiny)).max(ulps(-tiny));
            tiny *= 1.01;
        }
        assert!(worst <= 2.0, "{worst} units");
    }

    #[test]
    fn the_ends_of_the_range() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::MIN), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(88.8), f32::INFINITY);
        assert!(exp(88.72).is_finite());
        assert!(exp(f32::NAN).is_nan());
        // Subnormal results keep their absolute precision.
        let step = f64::from(f32::from_bits(1));
        for x in [-88.0f32, -95.5, -103.0] {
            assert!((f64::from(exp(x)) - f64::from(x).exp()).abs() <= step);
        }
    }

    #[test]
    fn tanh_to_three_units_in_the_last_place() {
        let mut worst: f64 = 0.0;
        let mut x = 1e-30f32;
        while x < 20.0 {
            for x in [x, -x] {
                worst = worst.max(distance(tanh(x), f64::from(x).tanh()));
            }
            x *= if x < 0.01 { 1.01 } else { 1.000_1 };
        }
        assert!(worst <= 3.0, "{worst} units");
        for (x, limit) in [
            (0.0f32, 0.0f32),
            (50.0, 1.0),
            (f32::MAX, 1.0),
            (f32::INFINITY, 1.0),
        ] {
            assert_eq!((tanh(x), tanh(-x)), (limit, -limit));
        }
        assert!(tanh(f32::NAN).is_nan());
    }
}
