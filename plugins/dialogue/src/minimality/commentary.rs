//! Comments on an edit inside of it, and what was put around all of it.
//!
//! Only what the response did not have counts. A comment is a first line that announces an edited text, or a last paragraph
//! that begins by telling what was changed.

use crate::wrappers::{HEADINGS, LANGUAGES, without_fence};

/// How a first line begins that announces something, in lower case.
const ANNOUNCING: [&str; 12] = [
    "here is",
    "here's",
    "below is",
    "sure",
    "certainly",
    "of course",
    "okay",
    "i have",
    "i've",
    "the edited",
    "edited",
    "revised",
];
/// What such a line speaks of.
const EDITED: [&str; 7] = [
    "edit", "revis", "correct", "improv", "chang", "minimal", "rewrit",
];
/// How a last paragraph begins that tells what was changed, in lower case.
const TELLING: [&str; 16] = [
    "note:",
    "(note:",
    "explanation:",
    "changes:",
    "changes made",
    "change made",
    "edits:",
    "edits made",
    "what i changed",
    "the only change",
    "i changed",
    "i have changed",
    "i've changed",
    "i edited",
    "i corrected",
    "i replaced",
];
/// Quotes that may stand around a text.
const QUOTES: [(char, char); 4] = [('"', '"'), ('“', '”'), ('«', '»'), ('`', '`')];

/// Whether the edit has a comment that the response does not have.
pub fn found(response: &str, edited: &str) -> bool {
    let announces = |line: &str| {
        let line = lower(line);
        let line = line.as_str();
        let speaks = EDITED.iter().any(|word| line.contains(word));
        let begins = ANNOUNCING.iter().any(|word| line.starts_with(word));
        HEADINGS.contains(&line) || (line.ends_with(':') && speaks && begins)
    };
    let tells = |paragraph: &str| {
        let paragraph = lower(
            paragraph
                .get(..paragraph.len().min(80))
                .unwrap_or(paragraph),
        );
        TELLING.iter().any(|word| paragraph.starts_with(word))
    };
    let (first, last) = (first_line(edited), last_paragraph(edited));
    (announces(first) && !announces(first_line(response)))
        || last.is_some_and(tells) && !last_paragraph(response).is_some_and(tells)
}

/// Whether all of the edit stands in a code fence or in quotes, and the response does not. Quotes count where the response
/// does not begin with one, and where there are none between them.
pub fn wrapped(response: &str, edited: &str) -> bool {
    let fenced = |text: &str| without_fence(text, &LANGUAGES).is_some();
    let quoted = |(open, close): &(char, char)| {
        let inside = edited.trim().strip_prefix(*open);
        let inside = inside.and_then(|inside| inside.strip_suffix(*close));
        inside.is_some_and(|inside| !inside.contains([*open, *close]))
            && !response.trim().starts_with(*open)
    };
    (fenced(edited) && !fenced(response)) || QUOTES.iter().any(quoted)
}

fn first_line(text: &str) -> &str {
    text.trim().lines().next().unwrap_or_default()
}

/// What stands behind the last blank line, where there is one.
fn last_paragraph(text: &str) -> Option<&str> {
    let text = text.trim();
    let mut end = text.len();
    while let Some(line_end) = text[..end].rfind('\n') {
        let before = text[..line_end].trim_end_matches([' ', '\t', '\r']);
        if before.ends_with('\n') {
            return Some(text[line_end..].trim());
        }
        end = line_end;
    }
    None
}

/// A line in lower case with straight apostrophes and without the signs of emphasis.
fn lower(line: &str) -> String {
    line.trim()
        .trim_matches(['*', '_', '#'])
        .trim()
        .replace('’', "'")
        .to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_found_at_both_ends() {
        for edited in [
            "Here is the corrected response:\nParis.",
            "**Sure! Here’s the minimally edited version:**\n\nParis.",
            "Paris.\n\nI changed Lyon to Paris.",
            "Paris.\r\n\r\n**Changes made:**\r\n- Lyon to Paris",
            "Paris.\n \n(Note: the city was wrong.)",
        ] {
            assert!(found("Lyon.", edited), "{edited}");
        }
    }

    #[test]
    fn what_the_response_had_is_no_comment() {
        let letter = "Here is the revised letter:\nDear Ann,\n\nNote: sign it.";
        assert!(!found(letter, &letter.replace("Ann", "Anne")));
        for edited in [
            "Here is a list:\n- a",
            "I changed my mind.",
            "One.\n\nTwo, and a note: three.",
            "",
        ] {
            assert!(!found("One.", edited), "{edited}");
        }
    }

    #[test]
    fn fences_and_quotes_around_everything_are_found() {
        assert!(wrapped("a b", "```\na c\n```"));
        assert!(wrapped("a b", "\"a c\""));
        assert!(wrapped("a b", "“a c”\n"));
        assert!(!wrapped("\"a b\"", "\"a c\""));
        assert!(!wrapped("a b", "\"a\" c"));
        assert!(!wrapped("a", "\""));
        assert!(!wrapped("a b", "\"a\" or \"c\""));
        assert!(!wrapped("\"a\" b", "\"a\""));
    }

    #[test]
    fn a_beginning_that_falls_inside_a_character_is_no_error() {
        assert!(!found(
            "a",
            &format!("x\n\n{}", "é".repeat(100).replacen('é', "e", 1))
        ));
    }
}
