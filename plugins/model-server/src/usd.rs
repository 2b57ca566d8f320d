//! Amounts of money as whole numbers, so that sums are exact and nothing is lost to rounding.

use std::fmt;

/// Picodollars in a dollar.
const PER_DOLLAR: f64 = 1e12;

/// An amount in picodollars (10⁻¹² US dollars): a token at 0.01 USD per million is 10 000 of them, and 18 million dollars
/// fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(u64);

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// An amount of picodollars.
    pub const fn from_pico(pico: u64) -> Self {
        Self(pico)
    }

    /// An amount of dollars, at least 0, rounded to the nearest picodollar.
    pub fn from_dollars(dollars: f64) -> Self {
        // A cast from a float saturates, and takes NaN for 0.
        Self((dollars * PER_DOLLAR).round() as u64)
    }

    /// In picodollars.
    pub const fn pico(self) -> u64 {
        self.0
    }

    /// In dollars, for reading.
    pub fn dollars(self) -> f64 {
        self.0 as f64 / PER_DOLLAR
    }

    /// The sum; the most there is where it would not fit.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, at least nothing.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// Dollars with as many digits as it takes to see small amounts: `$1.50`, `$0.000123`.
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dollars() {
            dollars if self.0 == 0 || dollars >= 0.1 => write!(f, "${dollars:.2}"),
            dollars => write!(f, "${dollars:.6}"),
        }
    }
}
