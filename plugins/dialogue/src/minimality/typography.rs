//! Differences that are typography and nothing else: models write quotes, dashes and white space their own way.

/// A text in plain typography: straight quotes, one hyphen for dashes and runs of them, three points for an ellipsis, one
/// space for a run of white space, none at the ends, and no characters without width (zero-width space, word joiner, byte
/// order mark, soft hyphen).
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.trim().chars() {
        match char {
            '\u{200b}' | '\u{2060}' | '\u{feff}' | '\u{ad}' => {}
            '‘' | '’' | '‚' | '‛' | '′' | 'ʼ' => out.push('\''),
            '“' | '”' | '„' | '‟' | '″' | '«' | '»' => out.push('"'),
            '-' | '‐' | '‑' | '‒' | '–' | '—' | '―' | '−' => {
                if !out.ends_with('-') {
                    out.push('-');
                }
            }
            '…' => out.push_str("..."),
            space if space.is_whitespace() => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            other => out.push(other),
        }
    }
    out
}

/// The white space in front of a text and behind it. A text of white space alone has all of it in front.
pub fn ends(text: &str) -> (&str, &str) {
    let rest = text.trim_start();
    let start = text.len() - rest.len();
    (&text[..start], &rest[rest.trim_end().len()..])
}

/// Whether a text ends its lines with CR LF, all of them.
pub fn has_crlf(text: &str) -> bool {
    let lines = text.matches('\n').count();
    lines > 0 && lines == text.matches("\r\n").count()
}

/// Whether white space at the ends differs, or the edit ends lines otherwise than the response does.
pub fn ends_differ(response: &str, edited: &str) -> bool {
    let lines = edited.contains('\n') && has_crlf(response) != has_crlf(edited);
    ends(response) != ends(edited) || (lines && response.contains('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typography_is_made_plain() {
        assert_eq!(
            plain(" “It’s”\u{a0}5–6…\r\n\tno\u{200b}w — -- done\n"),
            "\"It's\" 5-6... now - - done"
        );
        assert_eq!(plain("\u{a0}"), "");
    }

    #[test]
    fn white_space_at_the_ends_is_found() {
        assert_eq!(ends("\n a b \u{a0}"), ("\n ", " \u{a0}"));
        assert_eq!(ends(" \n"), (" \n", ""));
        assert_eq!(ends(""), ("", ""));
        assert!(ends_differ("a\n", "b"));
        assert!(!ends_differ("a\n", "b\n"));
    }

    #[test]
    fn other_line_ends_are_found() {
        assert!(has_crlf("a\r\nb\r\n"));
        assert!(!has_crlf("a\r\nb\n"));
        assert!(!has_crlf("a"));
        assert!(ends_differ("a\r\nb", "a\nc"));
        assert!(ends_differ("a\nb", "a\r\nc"));
        assert!(!ends_differ("a\r\nb", "a c"));
        assert!(!ends_differ("a b", "a\nc"));
    }
}
