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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_go_in_and_out_exactly_and_nonsense_is_nothing() {
        assert_eq!(Usd::from_dollars(1.5).pico(), 1_500_000_000_000);
        assert_eq!(Usd::from_dollars(0.01).dollars(), 0.01);
        assert_eq!(Usd::from_dollars(-1.0), Usd::ZERO);
        assert_eq!(Usd::from_dollars(f64::NAN), Usd::ZERO);
        assert_eq!(
            Usd::from_pico(u64::MAX).plus(Usd::from_pico(1)).pico(),
            u64::MAX
        );
        assert_eq!(Usd::ZERO.minus(Usd::from_pico(1)), Usd::ZERO);
    }

    #[test]
    fn small_amounts_are_printed_with_their_digits() {
        let printed: Vec<String> = [0.0, 0.000_123, 0.004, 1.5, 1234.567]
            .map(|dollars| Usd::from_dollars(dollars).to_string())
            .into();
        assert_eq!(
            printed,
            ["$0.00", "$0.000123", "$0.004000", "$1.50", "$1234.57"]
        );
    }
}
