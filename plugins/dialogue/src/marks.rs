//! Marks around the texts of a row: tags that occur in none of the texts, so that no text can close its own.

use sha2::{Digest, Sha256};

/// Hexadecimal digits of a mark, where no text of the row speaks against it.
const DIGITS: usize = 6;

/// The mark of a row: lower-case hexadecimal digits that stand in none of `texts`, in whatever case.
///
/// It follows from the texts alone, so the same row is asked the same question every time. Whoever writes a text cannot
/// choose it to hold its own mark: a mark that is in a text is not taken.
pub fn mark(texts: &[&str]) -> String {
    mark_from(DIGITS, texts)
}

/// [`mark`] with another number of digits to begin with.
fn mark_from(digits: usize, texts: &[&str]) -> String {
    let lower: Vec<String> = texts.iter().map(|text| text.to_ascii_lowercase()).collect();
    let mut seed = Sha256::new();
    for text in texts {
        // With lengths, so that ("ab", "c") and ("a", "bc") are two rows.
        seed.update((text.len() as u64).to_le_bytes());
        seed.update(text.as_bytes());
    }
    let mut number = 0_usize;
    loop {
        let mut hash = seed.clone();
        hash.update((number as u64).to_le_bytes());
        let mut digest = hash.finalize();
        // Longer from time to time: a text cannot hold a mark that is longer than itself, so the loop ends.
        let wanted = digits + number / 16;
        let mut mark = hex(&digest);
        while mark.len() < wanted {
            digest = Sha256::digest(digest);
            mark.push_str(&hex(&digest));
        }
        mark.truncate(wanted);
        if !lower.iter().any(|text| text.contains(&mark)) {
            return mark;
        }
        number += 1;
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_that_holds_its_mark_gets_another() {
        let first = mark(&["prompt", "response"]);
        assert_eq!(first.len(), DIGITS);
        assert_eq!(mark(&["prompt", "response"]), first);
    }

    #[test]
    fn where_every_short_mark_is_taken_a_longer_one_is_found() {
        let all: String = (0..=255_u8)
            .map(|byte| hex(&[byte]).to_uppercase())
            .collect();
        let longer = mark_from(2, &[&all]);
        assert!(longer.len() > 2, "{longer}");
        assert!(!all.to_lowercase().contains(&longer));
    }

    #[test]
    fn where_texts_are_divided_makes_another_mark() {
        assert_ne!(mark(&["ab", "c"]), mark(&["a", "bc"]));
    }

    proptest! {
        #[test]
        fn a_mark_is_in_no_text(texts in proptest::collection::vec("[0-9a-fA-F]{0,400}|\\PC{0,40}", 0..4)) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let mark = mark(&texts);
            for text in &texts {
                prop_assert!(!text.to_lowercase().contains(&mark));
            }
        }
    }
}
