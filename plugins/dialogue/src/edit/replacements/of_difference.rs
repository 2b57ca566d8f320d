//! The replacements that make one text out of another: what a model that does as it is told would answer.

use std::ops::Range;

use similar::{Algorithm, DiffOp, capture_diff_slices};
use unicode_segmentation::UnicodeSegmentation;

use super::Replacement;

/// A stretch that was changed, in words (white space is a word here).
struct Stretch {
    old: Range<usize>,
    new: Range<usize>,
}

/// Replacements that [`super::apply`] turns `response` into `edited` with: a list of changed passages, each with as many
/// words around it as it takes to find it.
///
/// For tests and stand-ins of a model: the work grows with the square of the length where passages repeat.
pub fn of_difference(response: &str, edited: &str) -> Vec<Replacement> {
    let (old, new): (Vec<&str>, Vec<&str>) = (
        response.split_word_bounds().collect(),
        edited.split_word_bounds().collect(),
    );
    let ops = capture_diff_slices(Algorithm::Myers, &old, &new);
    let mut open: Vec<Stretch> = ops
        .iter()
        .filter(|op| !matches!(op, DiffOp::Equal { .. }))
        .map(|op| Stretch {
            old: op.old_range(),
            new: op.new_range(),
        })
        .rev()
        .collect();
    let mut done: Vec<(Stretch, Replacement)> = Vec::new();
    while let Some(mut stretch) = open.pop() {
        // Grown into a neighbour: the two are one.
        while let Some((before, _)) = done.pop_if(|(before, _)| before.old.end > stretch.old.start)
        {
            stretch = joined(&before, &stretch);
        }
        while let Some(behind) = open.pop_if(|behind| stretch.old.end > behind.old.start) {
            stretch = joined(&stretch, &behind);
        }
        if let Some(replacement) = located(response, &old, &new, &stretch) {
            done.push((stretch, replacement));
            continue;
        }
        // Both sides grow by the same words, for what stands around a stretch is equal.
        if stretch.old.start > 0 {
            stretch.old.start -= 1;
            stretch.new.start = stretch.new.start.saturating_sub(1);
        }
        if stretch.old.end < old.len() {
            stretch.old.end += 1;
            stretch.new.end = (stretch.new.end + 1).min(new.len());
        }
        open.push(stretch);
    }
    done.into_iter()
        .map(|(_, replacement)| replacement)
        .collect()
}

/// Two stretches, the first of which begins first, and what is between them as one.
fn joined(first: &Stretch, second: &Stretch) -> Stretch {
    Stretch {
        old: first.old.start..second.old.end,
        new: first.new.start..second.new.end,
    }
}

/// The replacement of a stretch, where its passage can be found.
fn located(response: &str, old: &[&str], new: &[&str], stretch: &Stretch) -> Option<Replacement> {
    let find = old[stretch.old.clone()].concat();
    let start: usize = old[..stretch.old.start].iter().map(|word| word.len()).sum();
    if find.is_empty() && !response.is_empty() {
        return None;
    }
    let first = find.chars().next().map_or(0, char::len_utf8);
    let alone = response.find(&find) == Some(start) && !response[start + first..].contains(&find);
    let occurrence = if alone || find.is_empty() {
        None
    } else {
        let place = response
            .match_indices(&find)
            .position(|(at, _)| at == start)?;
        Some(u32::try_from(place + 1).ok()?)
    };
    Some(Replacement {
        find,
        replace: new[stretch.new.clone()].concat(),
        occurrence,
    })
}
