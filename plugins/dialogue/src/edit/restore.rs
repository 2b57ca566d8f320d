//! White space that a model lost and that no edit is about: at the ends of a response, and at its line ends.
//! [`super::revert`] is about typography between the words.

use finegrain_sdk::serde::{Deserialize, Serialize};

use crate::minimality::typography::{ends, has_crlf};

/// What was put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(crate = "finegrain_sdk::serde")]
pub struct Restored {
    /// Whether the white space at the ends was another one.
    pub ends: bool,
    /// How many line ends were LF alone, where the response ends its lines with CR LF.
    pub line_ends: usize,
    /// How many stretches and gaps of typography were taken back.
    pub typography: usize,
}

/// An edited response with the white space of the response at its ends, and with its line ends where the response has CR LF
/// throughout and the edit has none. A blank text stays as it is.
pub fn white_space(response: &str, edited: &str) -> (String, Restored) {
    let mut restored = Restored::default();
    if edited.trim().is_empty() {
        return (edited.to_owned(), restored);
    }
    let mut body = edited.trim().to_owned();
    // Only what is inside counts: the ends are put back as they were.
    if has_crlf(response) && !body.contains("\r\n") {
        restored.line_ends = body.matches('\n').count();
        body = body.replace('\n', "\r\n");
    }
    let (start, end) = ends(response);
    restored.ends = ends(edited) != (start, end);
    (format!("{start}{body}{end}"), restored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ends_are_those_of_the_response() {
        let (text, restored) = white_space("\n a b\u{a0}\n", "a c\n\n");
        assert_eq!(text, "\n a c\u{a0}\n");
        assert_eq!((restored.ends, restored.line_ends), (true, 0));
        let (text, restored) = white_space(" a\n", " b\n");
        assert_eq!((text.as_str(), restored), (" b\n", Restored::default()));
    }

    #[test]
    fn line_ends_are_put_back_where_the_response_has_one_kind() {
        let (text, restored) = white_space("a\r\nb\r\n", "a\nc\nd");
        assert_eq!(text, "a\r\nc\r\nd\r\n");
        assert_eq!((restored.ends, restored.line_ends), (true, 2));
        let (text, restored) = white_space("a\r\nb\nc", "a\nb\nd");
        assert_eq!((text.as_str(), restored.line_ends), ("a\nb\nd", 0));
    }

    #[test]
    fn a_blank_edit_stays_blank() {
        assert_eq!(white_space(" a ", "\n").0, "\n");
    }

    proptest! {
        #[test]
        fn what_needs_nothing_stays_as_it_is(text in "([ab]| |\r\n|\\PC){0,30}") {
            let (same, restored) = white_space(&text, &text);
            prop_assert_eq!(same, text);
            prop_assert_eq!(restored, Restored::default());
        }
    }
}
