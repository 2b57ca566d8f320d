//! The prompt of two texts that begin with it, where nothing says where it ends.

/// Cuts both texts behind the words that they have in common at the beginning, up to `most`, so that each keeps at least
/// one word: (prompt, rest of the original, rest of the edit). White space stays with the rests.
pub(in crate::data) fn cut_prompt<'a>(
    original: &'a str,
    edited: &'a str,
    most: usize,
) -> (&'a str, &'a str, &'a str) {
    // A word's end is far enough from the text's end if another word follows.
    let ends = |text: &'a str| {
        let last = text.trim_end().len();
        let mut at = 0;
        std::iter::from_fn(move || {
            let word = text[at..].trim_start();
            let start = text.len() - word.len();
            at = start + word.find(char::is_whitespace)?;
            (at < last).then_some((&text[start..at], at))
        })
    };
    let common = ends(original)
        .zip(ends(edited))
        .take(most)
        .take_while(|((a, _), (b, _))| a == b)
        .last();
    match common {
        None => ("", original, edited),
        Some(((_, original_end), (_, edited_end))) => (
            original[..original_end].trim_start(),
            &original[original_end..],
            &edited[edited_end..],
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_prompt_field_the_common_beginning_is_the_prompt() {
        for (original, edited, most, cut) in [
            ("a b c d", "a b x", 4, ("a b", " c d", " x")),
            ("a b c d", "a b x", 1, ("a", " b c d", " b x")),
            ("  a\tb c", "a b d", 4, ("a\tb", " c", " d")),
            // Each side keeps a word.
            ("a b", "a b c", 4, ("a", " b", " b c")),
            ("a b ", "a b ", 4, ("a", " b ", " b ")),
            ("a", "a b", 4, ("", "a", "a b")),
            ("é ü", "é o", 4, ("é", " ü", " o")),
            ("x b", "a b", 4, ("", "x b", "a b")),
            ("", "", 4, ("", "", "")),
        ] {
            assert_eq!(cut_prompt(original, edited, most), cut);
        }
    }
}
