//! Sixteen elements that are multiplied and added together: one AVX-512 register of f32, plain arrays elsewhere.
//!
//! The kernel of products ([`super::tile`]) keeps its sums in these. Plain loops over arrays are enough for everything else,
//! but in that kernel the compiler's choice between its two vectorisers decides over a factor of ten to forty, and changes
//! with what stands around it.

use super::lanes::LANES;

/// Sixteen elements of type `T`.
pub trait Register<T>: Copy {
    /// Zeros.
    #[must_use]
    fn zero() -> Self;

    /// One element sixteen times.
    #[must_use]
    fn splat(x: T) -> Self;

    /// Sixteen elements of memory.
    #[must_use]
    fn load(from: &[T; LANES]) -> Self;

    /// Into memory.
    fn store(self, to: &mut [T; LANES]);

    /// self · factor + addend, rounded as [`super::Element::fma`].
    #[must_use]
    fn fma(self, factor: Self, addend: Self) -> Self;

    /// self + other.
    #[must_use]
    fn add(self, other: Self) -> Self;

    /// Sixteen rows of a square as its columns.
    #[must_use]
    fn transpose(rows: [Self; LANES]) -> [Self; LANES];
}

impl<T: super::Element> Register<T> for [T; LANES] {
    #[inline]
    fn zero() -> Self {
        [T::zero(); LANES]
    }

    #[inline]
    fn splat(x: T) -> Self {
        [x; LANES]
    }

    #[inline]
    fn load(from: &[T; LANES]) -> Self {
        *from
    }

    #[inline]
    fn store(self, to: &mut [T; LANES]) {
        *to = self;
    }

    #[inline]
    fn fma(self, factor: Self, addend: Self) -> Self {
        std::array::from_fn(|lane| self[lane].fma(factor[lane], addend[lane]))
    }

    #[inline]
    fn add(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] + other[lane])
    }

    #[inline]
    fn transpose(rows: [Self; LANES]) -> [Self; LANES] {
        std::array::from_fn(|column| std::array::from_fn(|row| rows[row][column]))
    }
}

#[cfg(all(target_arch = "x86_64", target_feature = "avx512f"))]
mod avx512 {
    #![expect(unsafe_code, reason = "intrinsics")]

    use std::arch::x86_64::{
        __m512, _mm512_add_ps, _mm512_castpd_ps, _mm512_castps_pd, _mm512_fmadd_ps,
        _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_storeu_ps,
        _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
    };

    use super::{LANES, Register};

    impl Register<f32> for __m512 {
        #[inline]
        fn zero() -> Self {
            // SAFETY: the target has AVX-512 (this module's cfg).
            unsafe { _mm512_setzero_ps() }
        }

        #[inline]
        fn splat(x: f32) -> Self {
            // SAFETY: the target has AVX-512.
            unsafe { _mm512_set1_ps(x) }
        }

        #[inline]
        fn load(from: &[f32; LANES]) -> Self {
            // SAFETY: the target has AVX-512; sixteen elements lie there, at any alignment.
            unsafe { _mm512_loadu_ps(from.as_ptr()) }
        }

        #[inline]
        fn store(self, to: &mut [f32; LANES]) {
            // SAFETY: the target has AVX-512; there is room for sixteen elements, at any alignment.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self) }
        }

        #[inline]
        fn fma(self, factor: Self, addend: Self) -> Self {
            // SAFETY: the target has AVX-512.
            unsafe { _mm512_fmadd_ps(self, factor, addend) }
        }

        #[inline]
        fn add(self, other: Self) -> Self {
            // SAFETY: the target has AVX-512.
            unsafe { _mm512_add_ps(self, other) }
        }

        /// Four rounds of 16 shuffles: pairs of elements, pairs of pairs, then quarters of registers twice.
        #[inline]
        fn transpose(rows: [Self; LANES]) -> [Self; LANES] {
            let mut a = rows;
            let mut b = [Self::zero(); LANES];
            // SAFETY: the target has AVX-512.
            unsafe {
                for i in 0..8 {
                    b[2 * i] = _mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]);
                    b[2 * i + 1] = _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]);
                }
                for i in 0..4 {
                    for half in 0..2 {
                        let low = _mm512_castps_pd(b[4 * i + half]);
                        let high = _mm512_castps_pd(b[4 * i + 2 + half]);
                        a[4 * i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
                        a[4 * i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
                    }
                }
                // Now a[4·i + c] holds columns c, c + 4, c + 8 and c + 12 of rows 4·i to 4·i + 3, a quarter each.
                for c in 0..4 {
                    b[c] = _mm512_shuffle_f32x4::<0x88>(a[c], a[4 + c]);
                    b[4 + c] = _mm512_shuffle_f32x4::<0xdd>(a[c], a[4 + c]);
                    b[8 + c] = _mm512_shuffle_f32x4::<0x88>(a[8 + c], a[12 + c]);
                    b[12 + c] = _mm512_shuffle_f32x4::<0xdd>(a[8 + c], a[12 + c]);
                }
                for c in 0..8 {
                    a[c] = _mm512_shuffle_f32x4::<0x88>(b[c], b[8 + c]);
                    a[8 + c] = _mm512_shuffle_f32x4::<0xdd>(b[c], b[8 + c]);
                }
            }
            a
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Element;

    fn check<T: Element + std::fmt::Debug>() {
        let square: Vec<[T; LANES]> = (0..LANES)
            .map(|row| std::array::from_fn(|column| T::from_f64((100 * row + column) as f64)))
            .collect();
        let rows = std::array::from_fn(|row| T::Register::load(&square[row]));
        for (column, register) in T::Register::transpose(rows).into_iter().enumerate() {
            let mut found = [T::zero(); LANES];
            register.store(&mut found);
            let expected: Vec<T> = square.iter().map(|row| row[column]).collect();
            assert_eq!(found[..], expected);
        }
        let three = T::Register::splat(T::from_f64(3.0));
        let mut found = [T::zero(); LANES];
        three
            .fma(rows[2], T::Register::zero().add(three))
            .store(&mut found);
        let expected: Vec<T> = square[2]
            .iter()
            .map(|&x| T::from_f64(3.0) * x + T::from_f64(3.0))
            .collect();
        assert_eq!(found[..], expected);
    }

    #[test]
    fn registers_of_both_types_agree_with_plain_loops() {
        check::<f32>();
        check::<f64>();
    }
}
