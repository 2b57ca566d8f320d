//! Sums over slices in a fixed order that vectorises: sixteen running sums, added pairwise at the end.
//!
//! The compiler may not reorder a plain float sum, so a plain loop would run one element at a time.

use super::element::Element;

/// How many running sums: one AVX-512 register of f32.
pub(crate) const LANES: usize = 16;

/// Adds the lanes pairwise.
#[inline]
pub(super) fn total<T: Element>(mut lanes: [T; LANES]) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            let other = lanes[lane + width];
            lanes[lane] += other;
        }
        width /= 2;
    }
    lanes[0]
}

/// Σ a·b over slices of one length.
#[inline]
pub(super) fn dot<T: Element>(a: &[T], b: &[T]) -> T {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [T::zero(); LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] = a[lane].fma(b[lane], sums[lane]);
        }
    }
    let rest = a_rest.iter().zip(b_rest);
    rest.fold(total(sums), |sum, (&a, &b)| a.fma(b, sum))
}

/// Σ a·b·c over slices of one length.
#[inline]
pub(super) fn dot3<T: Element>(a: &[T], b: &[T], c: &[T]) -> T {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let (c, c_rest) = c.as_chunks::<LANES>();
    let mut sums = [T::zero(); LANES];
    for ((a, b), c) in a.iter().zip(b).zip(c) {
        for lane in 0..LANES {
            sums[lane] = (a[lane] * b[lane]).fma(c[lane], sums[lane]);
        }
    }
    let rest = a_rest.iter().zip(b_rest).zip(c_rest);
    rest.fold(total(sums), |sum, ((&a, &b), &c)| (a * b).fma(c, sum))
}

/// The largest element, −∞ for none; a NaN is passed over.
#[inline]
pub(super) fn max<T: Element>(a: &[T]) -> T {
    let larger = |left: T, right: T| if right > left { right } else { left };
    let (chunks, rest) = a.as_chunks::<LANES>();
    let mut lanes = [T::NEG_INFINITY; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], chunk[lane]);
        }
    }
    let lanes = lanes.iter().chain(rest);
    lanes.fold(T::NEG_INFINITY, |best, &value| larger(best, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_maxima_of_any_length() {
        for len in [0, 1, 15, 16, 17, 40] {
            let a: Vec<f64> = (0..len).map(|i| f64::from(i) - 3.0).collect();
            let squares: f64 = a.iter().map(|x| x * x).sum();
            let cubes: f64 = a.iter().map(|x| x * x * x).sum();
            assert_eq!(dot(&a, &a), squares);
            assert_eq!(dot3(&a, &a, &a), cubes);
            let largest = a.last().copied().unwrap_or(f64::NEG_INFINITY);
            assert_eq!(max(&a), largest);
        }
    }
}
