//! Looking into a finished run in the terminal: stages, metrics as sparklines, samples, tokens by reward.
//!
//! [`run`] reads a run's folder, the other files print parts of it as text of at most [`WIDTH`] columns.

pub mod metrics;
pub mod overview;
pub mod run;
pub mod samples;
pub mod sparkline;
pub mod tokens;

/// The most columns that a line takes.
pub const WIDTH: usize = 100;

/// Text on one line and without control characters: a response must not steer the terminal that shows it.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' => '⏎',
            '\t' => '→',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// One line of at most `width` columns, cut with an ellipsis.
pub fn line(text: &str, width: usize) -> String {
    console::truncate_str(&plain(text), width, "…").into_owned()
}

#[cfg(test)]
mod tests;
