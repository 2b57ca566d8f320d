//! The tokens of one response, coloured by what they got, or with the numbers under them.

use std::fmt::Write as _;

use console::Style;

use super::{WIDTH, line, plain};
use crate::config::nearest;
use crate::error::{Error, Result};
use crate::pipeline::stages::token_views::{TOKENS, TokenView};

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
pub fn find<'a>(rows: &'a [TokenView], id: &str) -> Result<&'a TokenView> {
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
pub fn render(row: &TokenView, by: By, coloured: bool) -> Result<String> {
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
