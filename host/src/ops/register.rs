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
}

impl<T: super::Element> Register<T> for [T; LANES] {
    #[inline(always)]
    fn zero() -> Self {
        [T::zero(); LANES]
    }

    #[inline(always)]
    fn splat(x: T) -> Self {
        [x; LANES]
    }

    #[inline(always)]
    fn load(from: &[T; LANES]) -> Self {
        *from
    }

    #[inline(always)]
    fn store(self, to: &mut [T; LANES]) {
        *to = self;
    }

    #[inline(always)]
    fn fma(self, factor: Self, addend: Self) -> Self {
        std::array::from_fn(|lane| self[lane].fma(factor[lane], addend[lane]))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] + other[lane])
    }
}

#[cfg(all(target_arch = "x86_64", target_feature = "avx512f"))]
mod avx512 {
    #![expect(unsafe_code, reason = "intrinsics")]

    use std::arch::x86_64::{
        __m512, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps,
        _mm512_setzero_ps, _mm512_storeu_ps,
    };

    use super::{LANES, Register};

    impl Register<f32> for __m512 {
        #[inline(always)]
        fn zero() -> Self {
            // SAFETY: the target has AVX-512 (this module's cfg).
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        fn splat(x: f32) -> Self {
            // SAFETY: the target has AVX-512.
            unsafe { _mm512_set1_ps(x) }
        }

        #[inline(always)]
        fn load(from: &[f32; LANES]) -> Self {
            // SAFETY: the target has AVX-512; sixteen elements lie there, at any alignment.
            unsafe { _mm512_loadu_ps(from.as_ptr()) }
        }

        #[inline(always)]
        fn store(self, to: &mut [f32; LANES]) {
            // SAFETY: the target has AVX-512; there is room for sixteen elements, at any alignment.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self) }
        }

        #[inline(always)]
        fn fma(self, factor: Self, addend: Self) -> Self {
            // SAFETY: the target has AVX-512.
            unsafe { _mm512_fmadd_ps(self, factor, addend) }
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: the target has AVX-512.
            unsafe { _mm512_add_ps(self, other) }
        }
    }
}
