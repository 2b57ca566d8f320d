//! The tokens of one response, coloured by what they got, or with the numbers under them.

use std::fmt::Write as _;

use std::collections::BTreeMap;

use console::Style;
use serde::{Deserialize, Serialize};

use super::{WIDTH, line, plain};
use crate::config::nearest;
use crate::data::records::Record;
use crate::error::{Error, Result};

/// The file of [`TokenRow`]s in a run's folder.
pub const TOKENS: &str = "tokens.jsonl";

/// One response and what PPO gave to each of its tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenRow {
    /// The prompt's id.
    pub id: String,
    /// The prompt.
    pub prompt: String,
    /// The pieces of the response, T of them.
    pub tokens: Vec<String>,
    /// The reward of every token, all channels together.
    pub reward: Vec<f32>,
    /// The rewards of every channel.
    #[serde(default)]
    pub channels: BTreeMap<String, Vec<f32>>,
    /// The divergence from the reference at every token, in nats.
    #[serde(default)]
    pub kl: Vec<f32>,
    /// The advantages; absent where the estimator compares several responses to a prompt.
    #[serde(default)]
    pub advantage: Option<Vec<f32>>,
    /// The critic's values; `None` where there is no critic.
    #[serde(default)]
    pub value: Option<Vec<f32>>,
    /// The sum of the rewards.
    pub total: f32,
    /// The judge's preference, from 0 to 1.
    #[serde(default)]
    pub preference: Option<f32>,
}

impl Record for TokenRow {
    const KIND: &'static str = "a response's tokens";
    const REQUIRED: &'static [&'static str] = &["id", "prompt", "tokens", "reward", "total"];

    fn id(&self) -> &str {
        &self.id
    }

    fn texts(&self) -> Vec<(&'static str, &str)> {
        Vec::new()
    }
}

/// What tokens are shown by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// The reward.
    #[default]
    Reward,
    /// The advantage.
    Advantage,
    /// The divergence from the reference.
    Kl,
    /// The critic's value.
    Value,
}

/// The row of an id.
///
/// # Errors
/// No such id: the hint names the nearest.
pub fn find<'a>(rows: &'a [TokenRow], id: &str) -> Result<&'a TokenRow> {
    rows.iter().find(|row| row.id == id).ok_or_else(|| {
        let near = nearest(id, rows.iter().map(|row| row.id.as_str()), 3);
        let near = if near.is_empty() {
            rows.iter().take(3).map(|row| row.id.as_str()).collect()
        } else {
            near
        };
        Error::input(format!(
            "--tokens {id}: {TOKENS} has {} responses and none of this id",
            rows.len()
        ))
        .hint(format!("there are {} and others", near.join(", ")))
    })
}

/// The response; `coloured` says whether escape sequences may be printed.
///
/// # Errors
/// A row that has not as many numbers as tokens.
pub fn render(row: &TokenRow, by: By, coloured: bool) -> Result<String> {
    let (name, values) = match by {
        By::Reward => ("reward", Some(&row.reward)),
        By::Advantage => ("advantage", row.advantage.as_ref()),
        By::Kl => ("kl", Some(&row.kl)),
        By::Value => ("value", row.value.as_ref()),
    };
    let Some(values) = values else {
        return Err(Error::input(format!("--by {name}: this run has none"))
            .hint("reward and kl are always there; values need a critic, advantages one response a prompt"));
    };
    if values.len() != row.tokens.len() {
        return Err(Error::input(format!(
            "{TOKENS}, id `{}`: {} tokens and {} numbers of `{name}`; one a token is accepted",
            row.id,
            row.tokens.len(),
            values.len()
        )));
    }
    let mut text = format!("{}\n", line(&format!("{}: {}", row.id, row.prompt), WIDTH));
    let total = format!("total reward {:.3}", row.total);
    let preference = row.preference.map(|p| format!(", preference {p:.2}"));
    let _ = write!(
        text,
        "{total}{}; tokens by {name}\n\n",
        preference.unwrap_or_default()
    );
    let largest = values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    let cells = row.tokens.iter().zip(values).map(|(token, &v)| {
        // A token of blanks is still there.
        let token = if token.trim().is_empty() {
            plain(token).replace(' ', "␣")
        } else {
            plain(token)
        };
        (token, v)
    });
    let mut widths = 0;
    let (mut above, mut below) = (String::new(), String::new());
    let mut flush = |above: &mut String, below: &mut String| {
        text += above.trim_end();
        text.push('\n');
        if !coloured {
            text += below.trim_end();
            text += "\n\n";
        }
        above.clear();
        below.clear();
    };
    for (token, v) in cells {
        let token = console::truncate_str(&token, WIDTH - 2, "…").into_owned();
        let figure = format!("{v:+.2}");
        let own = console::measure_text_width(&token);
        let width = if coloured {
            own
        } else {
            own.max(figure.len()) + 1
        };
        if widths + width > WIDTH && widths > 0 {
            flush(&mut above, &mut below);
            widths = 0;
        }
        widths += width;
        if coloured {
            above += &shade(v, largest).apply_to(&token).to_string();
        } else {
            above += &token;
            above += &" ".repeat(width - own);
            let _ = write!(below, "{figure:<width$}");
        }
    }
    flush(&mut above, &mut below);
    if coloured {
        let _ = writeln!(
            text,
            "\nred {:+.2} … green {:+.2}; none near 0",
            -largest, largest
        );
    }
    Ok(text)
}

/// Red below 0, green above, in three strengths of the 256-colour palette.
fn shade(value: f32, largest: f32) -> Style {
    let style = Style::new().force_styling(true);
    let strength = if largest > 0.0 {
        value.abs() / largest
    } else {
        0.0
    };
    let step = match strength {
        s if s < 0.1 => return Style::new().force_styling(false),
        s if s < 0.4 => 0,
        s if s < 0.75 => 1,
        _ => 2,
    };
    let background = if value > 0.0 {
        [22, 28, 34]
    } else {
        [52, 88, 124]
    }[step];
    style.white().on_color256(background)
}
