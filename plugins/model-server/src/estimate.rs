//! Tokens of a text before a server has counted them.

/// ASCII characters a token of newer tokenizers, the figure that costs are planned with.
const CHARS_PER_TOKEN: f64 = 3.2;
/// ASCII characters a token that even vocabularies of 200 000 words do not pass on prose or code.
const MOST_CHARS_PER_TOKEN: f64 = 4.5;
/// Tokens a character of other scripts, at least: large vocabularies hold pairs of them.
const LEAST_PER_OTHER: f64 = 0.5;

/// A likely number of tokens, for limits a minute; characters of other scripts are a token each.
pub fn likely(text: &str) -> u64 {
    let others = text.chars().filter(|c| !c.is_ascii()).count();
    let ascii = text.bytes().filter(u8::is_ascii).count();
    (ascii as f64 / CHARS_PER_TOKEN).ceil() as u64 + others as u64
}

/// A number of tokens that a server hardly stays below, for telling whether it has read all of a text. Runs of one
/// character (indentation, rules) are few tokens and count as one character.
pub fn at_least(text: &str) -> u64 {
    let (mut ascii, mut others, mut last) = (0_u64, 0_u64, None);
    for c in text.chars() {
        if last == Some(c) {
            continue;
        }
        last = Some(c);
        if c.is_ascii() {
            ascii += 1;
        } else {
            others += 1;
        }
    }
    (ascii as f64 / MOST_CHARS_PER_TOKEN + others as f64 * LEAST_PER_OTHER) as u64
}

/// A number of tokens that a body of `bytes` bytes cannot pass, for money that is set aside: tokens are of a byte at
/// least, and what servers add around the texts is some hundreds.
pub fn at_most(bytes: usize) -> u64 {
    const ADDED: u64 = 1024;
    bytes as u64 + ADDED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimates_are_in_order() {
        for text in [
            "",
            "a",
            "The quick brown fox jumps.",
            "日本語の文章",
            "        x = 1\n",
        ] {
            assert!(at_least(text) <= likely(text), "{text:?}");
            assert!(likely(text) <= at_most(text.len()), "{text:?}");
        }
    }

    #[test]
    fn a_rule_of_dashes_counts_as_next_to_nothing() {
        assert_eq!(at_least(&"-".repeat(10_000)), 0);
    }
}
