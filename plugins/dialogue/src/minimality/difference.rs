//! How a response and its edit differ, word by word.
//!
//! Up to 2^22 pairs of words the alignment is a shortest edit script (Myers, 1986), as the host aligns tokens. Longer texts
//! are aligned with the heuristics of crate `similar`, which bound the work and may count a few words too many.

use std::ops::Range;

use similar::{Algorithm, DiffOp, capture_diff_slices};
use unicode_segmentation::UnicodeSegmentation;

/// Pairs of words up to which the edit script is a shortest one.
const EXACT: usize = 1 << 22;
/// Pairs of characters in a stretch up to which characters are compared; in longer ones all count as changed.
const CHARACTERS: usize = 1 << 18;

/// A word and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'a> {
    /// The word.
    pub text: &'a str,
    /// Its first byte in the text.
    pub start: usize,
}

impl Word<'_> {
    fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

/// The words of a text, with punctuation marks and without white space (UAX #29).
pub fn words(text: &str) -> Vec<Word<'_>> {
    text.split_word_bound_indices()
        .filter(|(_, word)| !word.chars().all(char::is_whitespace))
        .map(|(start, text)| Word { text, start })
        .collect()
}

/// A stretch of words that was changed; one of the sides may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Words of the response.
    pub old: Range<usize>,
    /// Words of the edit.
    pub new: Range<usize>,
}

/// Two texts, aligned.
#[derive(Clone, Debug)]
pub struct Difference<'a> {
    texts: [&'a str; 2],
    /// Words of the response.
    pub old: Vec<Word<'a>>,
    /// Words of the edit.
    pub new: Vec<Word<'a>>,
    ops: Vec<DiffOp>,
}

impl<'a> Difference<'a> {
    /// The difference between a response and its edit.
    pub fn of(response: &'a str, edited: &'a str) -> Self {
        let (old, new) = (words(response), words(edited));
        let texts =
            |words: &[Word<'a>]| -> Vec<&'a str> { words.iter().map(|word| word.text).collect() };
        let algorithm = if old.len().saturating_mul(new.len()) <= EXACT {
            Algorithm::RawMyers
        } else {
            Algorithm::Myers
        };
        let ops = capture_diff_slices(algorithm, &texts(&old), &texts(&new));
        Self {
            texts: [response, edited],
            old,
            new,
            ops,
        }
    }

    /// The stretches that were changed, in order.
    pub fn stretches(&self) -> impl Iterator<Item = Stretch> {
        let changed = |op: &&DiffOp| !matches!(op, DiffOp::Equal { .. });
        self.ops.iter().filter(changed).map(|op| Stretch {
            old: op.old_range(),
            new: op.new_range(),
        })
    }

    /// The response's text of a stretch, with the white space inside it.
    pub fn old_text(&self, stretch: &Stretch) -> &'a str {
        passage(self.texts[0], &self.old[stretch.old.clone()])
    }

    /// The edit's text of a stretch, with the white space inside it.
    pub fn new_text(&self, stretch: &Stretch) -> &'a str {
        passage(self.texts[1], &self.new[stretch.new.clone()])
    }

    /// The share of characters of words of both sides that differ, in [0, 1]; 0 where there are no words.
    pub fn changed_characters(&self) -> f64 {
        let count = |words: &[Word<'_>]| -> usize {
            words.iter().map(|word| word.text.chars().count()).sum()
        };
        let all = count(&self.old) + count(&self.new);
        if all == 0 {
            return 0.0;
        }
        let changed: usize = self
            .stretches()
            .map(|stretch| {
                let letters = |words: &[Word<'_>]| -> Vec<char> {
                    words.iter().flat_map(|word| word.text.chars()).collect()
                };
                let (old, new) = (
                    letters(&self.old[stretch.old]),
                    letters(&self.new[stretch.new]),
                );
                if old.len().saturating_mul(new.len()) > CHARACTERS {
                    return old.len() + new.len();
                }
                let kept: usize = capture_diff_slices(Algorithm::RawMyers, &old, &new)
                    .iter()
                    .filter(|op| matches!(op, DiffOp::Equal { .. }))
                    .map(|op| op.old_range().len())
                    .sum();
                old.len() + new.len() - 2 * kept
            })
            .sum();
        changed as f64 / all as f64
    }

    /// How many gaps between two words, which both sides have one behind the other, hold other white space.
    pub fn gaps(&self) -> usize {
        let gap = |text: &'a str, words: &[Word<'_>], at: usize| {
            &text[words[at].end()..words[at + 1].start]
        };
        self.ops
            .iter()
            .filter(|op| matches!(op, DiffOp::Equal { .. }))
            .map(|op| {
                let (old, new) = (op.old_range(), op.new_range());
                old.zip(new)
                    .take(op.old_range().len().saturating_sub(1))
                    .filter(|(old, new)| {
                        gap(self.texts[0], &self.old, *old) != gap(self.texts[1], &self.new, *new)
                    })
                    .count()
            })
            .sum()
    }
}

/// A text from the first to the last of some of its words.
fn passage<'a>(text: &'a str, words: &[Word<'_>]) -> &'a str {
    match (words.first(), words.last()) {
        (Some(first), Some(last)) => &text[first.start..last.end()],
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts<'a>(words: &[Word<'a>]) -> Vec<&'a str> {
        words.iter().map(|word| word.text).collect()
    }

    #[test]
    fn words_are_those_of_unicode() {
        assert_eq!(
            texts(&words(" It's 3.5\u{a0}kg—no? 东京 ")),
            ["It's", "3.5", "kg", "—", "no", "?", "东", "京"]
        );
        assert!(words(" \r\n\t").is_empty());
    }

    #[test]
    fn stretches_hold_what_changed_and_nothing_else() {
        let difference = Difference::of("the red  cat sat", "the black dog sat down");
        let stretches: Vec<Stretch> = difference.stretches().collect();
        let texts = |s: &Stretch| (difference.old_text(s), difference.new_text(s));
        assert_eq!(texts(&stretches[0]), ("red  cat", "black dog"));
        assert_eq!(texts(&stretches[1]), ("", "down"));
        assert_eq!(stretches.len(), 2);
    }

    #[test]
    fn characters_are_compared_inside_of_stretches() {
        // color/colour: one of 5 + 6 characters; the rest is the same.
        let share = Difference::of("my color", "my colour").changed_characters();
        assert_eq!(share, 1.0 / 15.0);
        let share = Difference::of("my", "my own").changed_characters();
        assert_eq!(share, 3.0 / 7.0);
        assert_eq!(Difference::of("", " ").changed_characters(), 0.0);
    }

    #[test]
    fn gaps_are_counted_between_words_that_stayed() {
        assert_eq!(Difference::of("a b c d", "a  b\nc d").gaps(), 2);
        assert_eq!(Difference::of("a b c", "a x  c").gaps(), 0);
        assert_eq!(Difference::of("", "").gaps(), 0);
    }

    proptest! {
        #[test]
        fn unchanged_words_are_the_same_on_both_sides(
            response in "([ab]| |\n|é|\\PC){0,40}", edited in "([ab]| |\n|é|\\PC){0,40}",
        ) {
            let difference = Difference::of(&response, &edited);
            let (mut old, mut new) = (texts(&difference.old), texts(&difference.new));
            let stretches: Vec<Stretch> = difference.stretches().collect();
            for stretch in stretches.iter().rev() {
                old.drain(stretch.old.clone());
                new.drain(stretch.new.clone());
            }
            prop_assert_eq!(old, new);
            let share = difference.changed_characters();
            prop_assert!((0.0..=1.0).contains(&share));
            prop_assert_eq!(stretches.is_empty(), texts(&difference.old) == texts(&difference.new));
        }
    }
}
