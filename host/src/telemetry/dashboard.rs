//! The line that a running stage shows: stage, step, time left, and for PPO reward, KL, length and the last evaluation.

use std::time::{Duration, Instant};

use super::line::MetricLine;

/// Columns of the whole line on a terminal.
pub const WIDTH: usize = 100;
/// The stage in front of the bar.
pub const TITLE: usize = 22;
/// The bar.
pub const BAR: usize = 7;

/// A title of the form `VARIANT: STAGE` in at most [`TITLE`] columns: the variant is cut off first.
pub fn title(title: &str) -> String {
    let over = title.chars().count().saturating_sub(TITLE);
    if over == 0 {
        return title.to_owned();
    }
    let (variant, stage) = title.split_once(": ").unwrap_or((title, ""));
    let keep = variant.chars().count().saturating_sub(over + 1);
    let kept: String = variant.chars().take(keep).collect();
    let cut = if stage.is_empty() {
        format!("{kept}…")
    } else {
        format!("{kept}…: {stage}")
    };
    cut.chars().take(TITLE).collect()
}

/// What the figures were when they were last told.
#[derive(Clone, Debug, Default)]
pub struct Latest {
    reward: Option<f64>,
    kl: Option<f64>,
    length: Option<f64>,
    score: Option<f64>,
}

impl Latest {
    /// Takes what a line says.
    pub fn observe(&mut self, line: &MetricLine) {
        for (place, name) in [
            (&mut self.reward, "reward/total"),
            (&mut self.kl, "kl/response"),
            (&mut self.length, "response/mean_length"),
            (&mut self.score, "evaluation/score"),
        ] {
            *place = line.get(name).or(*place);
        }
    }

    /// The figures in words, where the stage is PPO.
    pub fn words(&self) -> Option<String> {
        let reward = self.reward?;
        let mut words = vec![format!("reward {}", short(reward))];
        for (name, value) in [("kl", self.kl), ("len", self.length), ("eval", self.score)] {
            if let Some(value) = value {
                words.push(format!("{name} {}", short(value)));
            }
        }
        Some(words.join("  "))
    }
}

/// A figure in at most six characters, or seven with a sign.
fn short(value: f64) -> String {
    match value.abs() {
        size if size < 10.0 => format!("{value:.3}"),
        size if size < 100.0 => format!("{value:.2}"),
        size if size < 1000.0 => format!("{value:.1}"),
        size if size < 100_000.0 => format!("{value:.0}"),
        _ => format!("{value:.0e}"),
    }
}

/// How fast a stage has gone since it began, or went on.
#[derive(Debug)]
pub struct Pace {
    start: Instant,
    first: u64,
    total: u64,
}

impl Pace {
    /// From here on; `first` units of work were done before.
    pub fn new(first: u64) -> Self {
        Self {
            start: Instant::now(),
            first,
            total: 0,
        }
    }

    /// The time that is left at the pace so far; `None` while nothing is done. Another total is other work.
    pub fn left(&mut self, done: u64, total: u64) -> Option<Duration> {
        if self.total != 0 && self.total != total {
            *self = Self::new(done);
        }
        self.total = total;
        left(
            self.start.elapsed(),
            done.checked_sub(self.first)?,
            total.checked_sub(done)?,
        )
    }
}

fn left(elapsed: Duration, done: u64, to_do: u64) -> Option<Duration> {
    (done > 0).then(|| elapsed.mul_f64(to_do as f64 / done as f64))
}

/// A time in at most six characters: `45s`, `12m`, `3h05m`, `4d`.
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds.div_ceil(60)),
        3600..360_000 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// What stands behind the bar: time left and figures, or what the stage says itself.
pub fn message(left: Option<Duration>, latest: &Latest, said: &str) -> String {
    let words = latest.words().unwrap_or_else(|| said.to_owned());
    let left = left.map(|left| format!("{} left", time(left)));
    match (left, words.is_empty()) {
        (Some(left), false) => format!("{left}  {words}"),
        (Some(left), true) => left,
        (None, _) => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latest(reward: f64, kl: f64, length: f64, score: f64) -> Latest {
        let mut latest = Latest::default();
        let values = [
            ("reward/total", reward),
            ("kl/response", kl),
            ("response/mean_length", length),
        ];
        latest.observe(&MetricLine::new(1, 0.0, &values));
        latest.observe(&MetricLine::new(1, 0.0, &[("evaluation/score", score)]));
        latest
    }

    #[test]
    fn ppo_shows_its_figures_and_others_what_they_say() {
        let quarter = Some(Duration::from_mins(15));
        assert_eq!(
            message(quarter, &latest(1.25, 0.5, 20.4, 0.66), "reward 1.25"),
            "15m left  reward 1.250  kl 0.500  len 20.40  eval 0.660"
        );
        assert_eq!(
            message(quarter, &Latest::default(), "loss 0.5"),
            "15m left  loss 0.5"
        );
        assert_eq!(message(None, &Latest::default(), ""), "");
    }

    #[test]
    fn a_long_title_keeps_its_stage() {
        assert_eq!(title("fine-token-ppo: ppo"), "fine-token-ppo: ppo");
        let cut = title("fine-token-ppo: reward model");
        assert_eq!(cut, "fine-to…: reward model");
        assert_eq!(cut.chars().count(), TITLE);
        assert_eq!(title(&"x".repeat(40)).chars().count(), TITLE);
        assert_eq!(
            title(&format!("a: {}", "x".repeat(40))).chars().count(),
            TITLE
        );
    }

    #[test]
    fn the_longest_line_fits_on_a_terminal() {
        let hours = Some(Duration::from_mins(99 * 60 + 59));
        let message = message(hours, &latest(-123.456, -12.34, 1234.5, 0.666), "");
        let steps = "1000/1000".len();
        let line = TITLE + 1 + BAR + 1 + steps + 1 + message.len();
        assert!(line <= WIDTH, "{line}: {message}");
    }

    #[test]
    fn the_time_left_follows_from_what_was_done_since_the_start() {
        let minute = Duration::from_mins(1);
        assert_eq!(left(minute, 0, 10), None);
        assert_eq!(left(minute, 2, 10), Some(5 * minute));
        // Gone on with at step 30: the pace is that of the steps since then.
        let mut pace = Pace::new(30);
        assert_eq!(pace.left(30, 40), None);
        assert!(pace.left(31, 40).is_some());
        assert_eq!(pace.left(5, 99), None, "other work begins anew");
        let shown: Vec<String> = [59, 61, 3600, 11_100, 400_000]
            .map(|seconds| time(Duration::from_secs(seconds)))
            .into();
        assert_eq!(shown, ["59s", "2m", "1h00m", "3h05m", "4d"]);
    }
}
