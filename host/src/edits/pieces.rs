//! A response and its edit as one text: what stayed, what was taken out, what was put in.

use finegrain_dialogue::minimality::difference::{Difference, Stretch, Word};

/// A part of the one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// In both.
    Kept(&'a str),
    /// In the response alone.
    Deleted(&'a str),
    /// In the edit alone.
    Inserted(&'a str),
}

/// The pieces of a response and its edit, in order. White space around changed words is that of one side; where words stayed on
/// both sides of it and it changed, it is a change of its own.
pub fn pieces<'a>(response: &'a str, edited: &'a str) -> Vec<Piece<'a>> {
    let difference = Difference::of(response, edited);
    let texts = [response, edited];
    let mut out = Vec::new();
    let mut at = [0, 0];
    let mut touched = false;
    for stretch in difference.stretches() {
        let Stretch { old, new } = &stretch;
        kept(
            &mut out,
            &difference,
            texts,
            &mut at,
            [old.start, new.start],
            touched,
        );
        // The white space in front, of the side that goes on.
        let gaps = [
            gap(response, &difference.old, old.start),
            gap(edited, &difference.new, new.start),
        ];
        let [before, _] = if new.is_empty() {
            gaps
        } else {
            [gaps[1], gaps[0]]
        };
        push(&mut out, Piece::Kept(before));
        push(&mut out, Piece::Deleted(difference.old_text(&stretch)));
        push(&mut out, Piece::Inserted(difference.new_text(&stretch)));
        at = [old.end, new.end];
        touched = true;
    }
    let ends = [difference.old.len(), difference.new.len()];
    kept(&mut out, &difference, texts, &mut at, ends, touched);
    let tails = [
        gap(response, &difference.old, ends[0]),
        gap(edited, &difference.new, ends[1]),
    ];
    space(&mut out, tails);
    out
}

/// Words that stayed, up to those at `until`, with the white space in front of each.
fn kept<'a>(
    out: &mut Vec<Piece<'a>>,
    difference: &Difference<'a>,
    texts: [&'a str; 2],
    at: &mut [usize; 2],
    until: [usize; 2],
    mut touched: bool,
) {
    while at[0] < until[0] && at[1] < until[1] {
        let gaps = [
            gap(texts[0], &difference.old, at[0]),
            gap(texts[1], &difference.new, at[1]),
        ];
        if touched {
            // Behind a change the white space belongs to it.
            push(out, Piece::Kept(gaps[1]));
        } else {
            space(out, gaps);
        }
        push(out, Piece::Kept(difference.new[at[1]].text));
        *at = [at[0] + 1, at[1] + 1];
        touched = false;
    }
}

/// White space that both sides have at a place, the same or not.
fn space<'a>(out: &mut Vec<Piece<'a>>, gaps: [&'a str; 2]) {
    if gaps[0] == gaps[1] {
        push(out, Piece::Kept(gaps[1]));
    } else {
        push(out, Piece::Deleted(gaps[0]));
        push(out, Piece::Inserted(gaps[1]));
    }
}

fn push<'a>(out: &mut Vec<Piece<'a>>, piece: Piece<'a>) {
    let (Piece::Kept(text) | Piece::Deleted(text) | Piece::Inserted(text)) = piece;
    if !text.is_empty() {
        out.push(piece);
    }
}

/// The white space in front of a word, or behind the last.
fn gap<'a>(text: &'a str, words: &[Word<'_>], at: usize) -> &'a str {
    let end = |word: &Word<'_>| word.start + word.text.len();
    let from = at.checked_sub(1).map_or(0, |before| end(&words[before]));
    let to = words.get(at).map_or(text.len(), |word| word.start);
    &text[from..to]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marked(response: &str, edited: &str) -> String {
        pieces(response, edited)
            .iter()
            .map(|piece| match piece {
                Piece::Kept(text) => (*text).to_owned(),
                Piece::Deleted(text) => format!("[-{text}-]"),
                Piece::Inserted(text) => format!("{{+{text}+}}"),
            })
            .collect()
    }

    #[test]
    fn what_was_taken_out_stands_in_front_of_what_was_put_in() {
        for (response, edited, expected) in [
            (
                "the red cat sat",
                "the black cat sat",
                "the [-red-]{+black+} cat sat",
            ),
            ("the red cat", "the cat", "the [-red-] cat"),
            ("the cat.", "the big cat.", "the {+big+} cat."),
            ("a b", "a b c", "a b {+c+}"),
            ("x a", "a", "[-x-]a"),
            ("a  b", "a b", "a[-  -]{+ +}b"),
            ("a b\n", "a b", "a b[-\n-]"),
            ("same", "same", "same"),
            ("", "new", "{+new+}"),
        ] {
            assert_eq!(marked(response, edited), expected);
        }
    }

    proptest! {
        #[test]
        fn the_words_of_both_sides_are_all_there(
            response in "([ab]| |\n|é|\\PC){0,30}", edited in "([ab]| |\n|é|\\PC){0,30}",
        ) {
            let blank = |text: &str| -> String {
                text.chars().filter(|c| !c.is_whitespace()).collect()
            };
            let (mut old, mut new) = (String::new(), String::new());
            for piece in pieces(&response, &edited) {
                match piece {
                    Piece::Kept(text) => { old += text; new += text; }
                    Piece::Deleted(text) => old += text,
                    Piece::Inserted(text) => new += text,
                }
            }
            prop_assert_eq!(blank(&old), blank(&response));
            prop_assert_eq!(blank(&new), blank(&edited));
        }
    }
}
