//! Typography that a model rewrote beside its edit: quotes, dashes, ellipses and kinds of white space.
//!
//! Such changes would count as edited tokens. They can be told apart where nothing else changed in their stretch, and then
//! be taken back.

use std::ops::Range;

use crate::minimality::difference::{Difference, Stretch, Word};
use crate::minimality::typography::plain;

/// An edited response in which stretches and gaps that changed in typography alone are as the response has them, and how
/// many these were. What stands at the ends is left as it is.
pub fn typography(response: &str, edited: &str) -> (String, usize) {
    let difference = Difference::of(response, edited);
    let mut parts = Parts {
        response,
        edited,
        difference: &difference,
        out: String::with_capacity(edited.len()),
        reverted: 0,
    };
    let (mut old, mut new) = (0, 0);
    // Behind words that one side alone has, it is open which gap stands for which. Nor is a beginning a gap.
    let mut paired = false;
    for stretch in difference.stretches() {
        parts.same(old..stretch.old.start, new, paired);
        parts.changed(&stretch);
        (old, new) = (stretch.old.end, stretch.new.end);
        paired = !stretch.old.is_empty() && !stretch.new.is_empty();
    }
    parts.same(old..difference.old.len(), new, paired);
    let last = difference.new.last().map_or(0, end);
    parts.out.push_str(&edited[last..]);
    (parts.out, parts.reverted)
}

/// The text so far.
struct Parts<'a> {
    response: &'a str,
    edited: &'a str,
    difference: &'a Difference<'a>,
    out: String,
    reverted: usize,
}

impl Parts<'_> {
    /// Words that both sides have, from word `new` of the edit on; `paired` says whether the words in front of them stand
    /// for each other, too.
    fn same(&mut self, old: Range<usize>, new: usize, paired: bool) {
        for (index, old) in old.enumerate() {
            self.gap(old, new + index, paired || index > 0);
            self.out.push_str(self.difference.old[old].text);
        }
    }

    /// A stretch, taken back where it is typography.
    fn changed(&mut self, stretch: &Stretch) {
        let (before, after) = (
            self.difference.old_text(stretch),
            self.difference.new_text(stretch),
        );
        if stretch.new.is_empty() {
            return;
        }
        if plain(before) == plain(after) {
            let paired = stretch.old.start > 0 && stretch.new.start > 0;
            self.gap(stretch.old.start, stretch.new.start, paired);
            self.out.push_str(before);
            self.reverted += 1;
        } else {
            self.out
                .push_str(gap(self.edited, &self.difference.new, stretch.new.start));
            self.out.push_str(after);
        }
    }

    /// The white space in front of two words that stand for each other; `paired` says whether the words in front of it do.
    fn gap(&mut self, old: usize, new: usize, paired: bool) {
        let before = gap(self.response, &self.difference.old, old);
        let after = gap(self.edited, &self.difference.new, new);
        if paired && before != after && before.is_empty() == after.is_empty() {
            self.out.push_str(before);
            self.reverted += 1;
        } else {
            self.out.push_str(after);
        }
    }
}

/// What stands in front of a word, up to the word before it.
fn gap<'a>(text: &'a str, words: &[Word<'_>], index: usize) -> &'a str {
    let from = index.checked_sub(1).map_or(0, |before| end(&words[before]));
    &text[from..words[index].start]
}

fn end(word: &Word<'_>) -> usize {
    word.start + word.text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn typography_is_taken_back_and_the_edit_stays() {
        let response = "He said \"it's 5-6 km\" ...\nand left.";
        let edited = "He said “it’s 5–6\u{a0}km” … and went.";
        let (text, reverted) = typography(response, edited);
        assert_eq!(text, "He said \"it's 5-6 km\" ...\nand went.");
        // Quote and apostrophe, dash, space, quote and ellipsis, line break.
        assert_eq!(reverted, 5);
    }

    #[test]
    fn what_is_more_than_typography_stays() {
        for (response, edited) in [
            ("a b", "a, b"),
            ("a-b", "a - b"),
            ("a b c", "a c"),
            ("\"a\"", "“b”"),
            (" a", "a\n"),
            ("a b\nc", "a c"),
            ("a\nc", "a b c"),
        ] {
            assert_eq!(typography(response, edited), (edited.to_owned(), 0));
        }
    }

    proptest! {
        #[test]
        fn nothing_but_typography_changes(
            response in "([ab]|[ \n\"“'’–-]|\r\n|…|\\PC){0,40}", edited in "([ab]|[ \n\"“'’–-]|\r\n|…|\\PC){0,40}",
        ) {
            let (text, reverted) = typography(&response, &edited);
            prop_assert_eq!(plain(&text), plain(&edited));
            prop_assert_eq!(reverted == 0, text == edited);
            prop_assert_eq!(typography(&response, &response), (response.clone(), 0));
        }
    }
}
