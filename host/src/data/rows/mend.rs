//! What other languages write as JSON and JSON is not: `NaN` and infinities, and halves of characters.

use std::borrow::Cow;

/// A text as JSON, and where it was not.
pub(super) struct Mended<'a> {
    /// The text with `null` for numbers that are none, and U+FFFD for half a character.
    pub(super) text: Cow<'a, str>,
    /// Where in `text` half a character stood, in bytes.
    pub(super) halves: Vec<usize>,
}

/// Words outside of texts that Python reads and writes as numbers, the longest first.
const NO_NUMBERS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// An escape of four digits, `\u1234`, is this long.
const ESCAPE: usize = 6;

/// Makes JSON out of `text`; what else is wrong with it stays so.
pub(super) fn mend(text: &str) -> Mended<'_> {
    let mut out = String::new();
    let mut halves = Vec::new();
    // What stands before `copied` is in `out`.
    let (mut copied, mut at, mut inside) = (0, 0, false);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        let rest = &text.as_bytes()[at..];
        let (length, instead) = match (inside, bytes[at]) {
            (_, b'"') => {
                inside = !inside;
                (1, None)
            }
            (true, b'\\') => match escaped(rest) {
                Some(0xd800..=0xdbff)
                    if matches!(escaped(&rest[ESCAPE..]), Some(0xdc00..=0xdfff)) =>
                {
                    (2 * ESCAPE, None)
                }
                Some(0xd800..=0xdfff) => (ESCAPE, Some("\u{fffd}")),
                _ => (2, None),
            },
            (false, b'-' | b'I' | b'N') => NO_NUMBERS
                .iter()
                .find(|word| rest.starts_with(word.as_bytes()))
                .map_or((1, None), |word| (word.len(), Some("null"))),
            _ => (1, None),
        };
        if let Some(instead) = instead {
            out.push_str(&text[copied..at]);
            if inside {
                halves.push(out.len());
            }
            out.push_str(instead);
            copied = at + length;
        }
        at += length;
    }
    let text = if copied == 0 {
        Cow::Borrowed(text)
    } else {
        out.push_str(&text[copied..]);
        Cow::Owned(out)
    };
    Mended { text, halves }
}

/// The unit of UTF-16 of an escape that stands at the beginning.
fn escaped(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    let digits = std::str::from_utf8(digits).ok()?;
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_none_are_null_and_texts_keep_their_words() {
        for (text, json) in [
            (
                r#"{"a": NaN, "b": [-Infinity,Infinity]}"#,
                r#"{"a": null, "b": [null,null]}"#,
            ),
            (
                r#"{"NaN": "say \"NaN\", -Infinity", "c": -1}"#,
                r#"{"NaN": "say \"NaN\", -Infinity", "c": -1}"#,
            ),
            (r#"["\\", NaN]"#, r#"["\\", null]"#),
        ] {
            let mended = mend(text);
            assert_eq!((&*mended.text, mended.halves.len()), (json, 0));
        }
    }

    #[test]
    fn half_a_character_is_found_wherever_it_stands_and_a_whole_one_is_left() {
        for (text, json, halves) in [
            (r#"["\ud83d\ude00 é"]"#, r#"["\ud83d\ude00 é"]"#, vec![]),
            (r#"["a\ud83d"]"#, "[\"a\u{fffd}\"]", vec![3]),
            (r#"["\ude00b"]"#, "[\"\u{fffd}b\"]", vec![2]),
            (
                r#"["\uD83D\uD83D\uDE00"]"#,
                "[\"\u{fffd}\\uD83D\\uDE00\"]",
                vec![2],
            ),
            (r#"["\\ud83d"]"#, r#"["\\ud83d"]"#, vec![]),
            (r#"["\ud83"#, r#"["\ud83"#, vec![]),
        ] {
            let mended = mend(text);
            assert_eq!((&*mended.text, mended.halves), (json, halves));
        }
    }
}
