//! How long to wait before the next try of one request.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait of our own.
const LONGEST: Duration = Duration::from_mins(1);

/// The wait before try `again` (1 is the first repetition): it doubles, and half of it is drawn by `random` in [0, 1) so that
/// workers do not come back together. What the server asked for is the least; the drawn part comes on top of it.
pub(crate) fn delay(again: u32, asked: Option<Duration>, random: f64) -> Duration {
    let own = FIRST
        .saturating_mul(1 << again.saturating_sub(1).min(16))
        .min(LONGEST);
    match asked {
        Some(asked) if asked >= own => asked + jitter(asked, random),
        _ => own.div_f64(2.0) + own.mul_f64(random / 2.0),
    }
}

/// What is added to a wait that a server asked for: up to a quarter of it, and up to a second more. Added, never taken:
/// whoever comes early is refused, and workers that wait for the same moment come at once.
pub(crate) fn jitter(asked: Duration, random: f64) -> Duration {
    (asked.div_f64(4.0) + asked.min(Duration::from_secs(1))).mul_f64(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_half_of_each_is_drawn() {
        let seconds = |again, random| delay(again, None, random).as_secs_f64();
        assert_eq!(seconds(1, 0.0), 0.25);
        assert_eq!(seconds(2, 0.0), 0.5);
        assert!((seconds(2, 0.999) - 1.0).abs() < 0.01);
        assert_eq!(seconds(40, 0.0), 30.0);
    }

    #[test]
    fn nobody_comes_back_before_the_server_said() {
        let asked = Duration::from_secs(20);
        for random in [0.0, 0.3, 0.99] {
            let waited = delay(1, Some(asked), random);
            assert!(waited >= asked && waited <= Duration::from_secs(26));
        }
    }
}
