//! The element types that the operations run in: f32 for training, f64 for checks of gradients.

use std::ops::Neg;

use candle_core::WithDType;

use super::exp::{exp, tanh};
use super::lanes::LANES;
pub use super::register::Register;

/// A floating-point element with the functions the kernels need.
pub trait Element: WithDType + Default + Neg<Output = Self> {
    /// Sixteen of them.
    type Register: Register<Self>;

    /// −∞, which `exp` takes to exactly zero.
    const NEG_INFINITY: Self;

    /// e^self; for f32 a polynomial that loops vectorise (`exp.rs`).
    #[must_use]
    fn exp(self) -> Self;
    /// The hyperbolic tangent; for f32 straight-line arithmetic too.
    #[must_use]
    fn tanh(self) -> Self;
    /// The natural logarithm.
    #[must_use]
    fn ln(self) -> Self;
    /// The square root.
    #[must_use]
    fn sqrt(self) -> Self;
    /// self · factor + addend, rounded once where the machine does that in one instruction. Elsewhere a correctly
    /// rounded one would be a call into the C library per element, so it is rounded twice.
    #[must_use]
    fn fma(self, factor: Self, addend: Self) -> Self;
}

/// Whether the target multiplies and adds in one instruction.
const FUSED: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

impl Element for f32 {
    #[cfg(all(target_arch = "x86_64", target_feature = "avx512f"))]
    type Register = std::arch::x86_64::__m512;
    #[cfg(not(all(target_arch = "x86_64", target_feature = "avx512f")))]
    type Register = [f32; LANES];

    const NEG_INFINITY: Self = f32::NEG_INFINITY;

    #[inline]
    fn exp(self) -> Self {
        exp(self)
    }

    #[inline]
    fn tanh(self) -> Self {
        tanh(self)
    }

    #[inline]
    fn ln(self) -> Self {
        f32::ln(self)
    }

    #[inline]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }

    #[inline]
    fn fma(self, factor: Self, addend: Self) -> Self {
        if FUSED {
            self.mul_add(factor, addend)
        } else {
            self * factor + addend
        }
    }
}

impl Element for f64 {
    type Register = [f64; LANES];

    const NEG_INFINITY: Self = f64::NEG_INFINITY;

    #[inline]
    fn exp(self) -> Self {
        f64::exp(self)
    }

    #[inline]
    fn tanh(self) -> Self {
        f64::tanh(self)
    }

    #[inline]
    fn ln(self) -> Self {
        f64::ln(self)
    }

    #[inline]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }

    #[inline]
    fn fma(self, factor: Self, addend: Self) -> Self {
        if FUSED {
            self.mul_add(factor, addend)
        } else {
            self * factor + addend
        }
    }
}
