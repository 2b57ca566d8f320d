//! What the model is told about a finding.

use super::Check;

/// The sentences about a finding.
pub(super) fn of(check: Check, figure: f64, limit: f64) -> String {
    let most = || (percent(figure, f64::ceil), percent(limit, f64::round));
    let least = || (percent(figure, f64::floor), percent(limit, f64::round));
    match check {
        Check::ChangedWords => {
            let (found, allowed) = most();
            format!(
                "You changed {found} of the words; at most {allowed} may change. Change only the words that are wrong."
            )
        }
        Check::ChangedCharacters => {
            let (found, allowed) = most();
            format!(
                "You changed {found} of the characters; at most {allowed} may change. Change only what is wrong."
            )
        }
        Check::KeptWords => {
            let (found, needed) = least();
            format!(
                "Only {found} of the words of the response are left; at least {needed} must be. You wrote a new answer: edit the one that was given."
            )
        }
        Check::Longer => format!(
            "Your edit is {} times as long as the response; at most {} times is allowed. Add nothing that need not be there.",
            tenths(figure * 100.0, f64::ceil),
            tenths(limit * 100.0, f64::round)
        ),
        Check::Shorter => format!(
            "Your edit is {} times as long as the response; at least {} times is needed. Leave out nothing that need not go.",
            tenths(figure * 100.0, f64::floor),
            tenths(limit * 100.0, f64::round)
        ),
        Check::Script => {
            let (found, allowed) = most();
            format!(
                "{found} of the letters went over to another script; at most {allowed} may. Keep the language of the response."
            )
        }
        Check::NoiseOnly => {
            "You changed nothing but quotes, dashes, ellipses or white space. Keep these as they are; if nothing else is wrong with the response, say that it is unchanged.".to_owned()
        }
        Check::Commentary => {
            "There is a comment on the edit in your edited response. Give the edited response alone.".to_owned()
        }
        Check::Wrapping => {
            "You put the whole response into a code fence or quotes. Give it without them, as it was.".to_owned()
        }
        Check::WhiteSpace => {
            "You changed the white space at the beginning or the end of the response, or its line ends. Keep them as they are.".to_owned()
        }
        Check::PromptEcho => {
            "You copied the instruction into the response. Give the edited response alone.".to_owned()
        }
    }
}

/// A share as a percentage with at most one decimal, rounded so that what is over a limit does not read as the limit.
fn percent(share: f64, round: fn(f64) -> f64) -> String {
    let tenths = round(share * 1000.0) / 10.0;
    format!("{tenths}%")
}

/// Hundredths as a number with at most two decimals.
fn tenths(hundredths: f64, round: fn(f64) -> f64) -> String {
    format!("{}", round(hundredths) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_name_the_figure_and_the_limit() {
        let text = of(Check::ChangedWords, 0.62, 0.4);
        assert!(
            text.starts_with("You changed 62% of the words; at most 40% may change."),
            "{text}"
        );
        let text = of(Check::Longer, 2.0, 1.5);
        assert!(
            text.contains("2 times as long") && text.contains("1.5 times"),
            "{text}"
        );
    }

    #[test]
    fn what_is_over_the_limit_does_not_read_as_the_limit() {
        assert!(of(Check::ChangedWords, 0.400_01, 0.4).contains("40.1%"));
        assert!(of(Check::KeptWords, 0.499_99, 0.5).contains("49.9%"));
        assert!(of(Check::Longer, 1.500_1, 1.5).contains("1.51 times"));
        assert!(of(Check::Shorter, 0.499_9, 0.5).contains("0.49 times"));
    }
}
