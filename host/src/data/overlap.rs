//! Prompts that stand in a training split and in a test split: what a test says of them, training has told it.

use std::collections::{BTreeSet, HashSet};

use crate::data::splits::Split;

/// A row's id and its prompt.
pub type Named<'a> = (&'a str, &'a str);

/// How many rows of a test split are named.
const NAMED: usize = 3;

/// The prompts of a test split that are trained on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedPrompts {
    /// The test split.
    pub split: Split,
    /// Different prompts of the split.
    pub prompts: usize,
    /// How many of them stand in a training split, at least one.
    pub shared: usize,
    /// The ids of the first rows with one.
    pub first: Vec<String>,
}

/// The prompts of each test split that stand among those of training; splits that share none are left out. Prompts are the same
/// where their texts are, but for white space around them.
pub fn shared(training: &[Named<'_>], tests: &[(Split, Vec<Named<'_>>)]) -> Vec<SharedPrompts> {
    let trained: HashSet<&str> = training.iter().map(|(_, prompt)| prompt.trim()).collect();
    let mut found = Vec::new();
    for (split, rows) in tests {
        let mut prompts = HashSet::new();
        let mut first = Vec::new();
        for (id, prompt) in rows {
            let prompt = prompt.trim();
            if prompts.insert(prompt) && trained.contains(prompt) {
                first.push((*id).to_owned());
            }
        }
        let shared = first.len();
        first.truncate(NAMED);
        if shared > 0 {
            found.push(SharedPrompts {
                split: *split,
                prompts: prompts.len(),
                shared,
                first,
            });
        }
    }
    found
}

/// A sentence about shared prompts; `None` where there are none.
pub fn in_words(found: &[SharedPrompts], cure: &str) -> Option<String> {
    if found.is_empty() {
        return None;
    }
    let of_split = |shared: &SharedPrompts| {
        let more = if shared.shared > shared.first.len() {
            ", …"
        } else {
            ""
        };
        format!(
            "{} of the {} prompts of {} (rows {}{more})",
            shared.shared,
            shared.prompts,
            shared.split,
            shared.first.join(", ")
        )
    };
    let counts: Vec<String> = found.iter().map(of_split).collect();
    let splits: BTreeSet<Split> = found.iter().map(|shared| shared.split).collect();
    let verb = if splits.len() == 1 && found[0].shared == 1 {
        "stands"
    } else {
        "stand"
    };
    Some(format!(
        "{} {verb} in training splits too: {cure}",
        counts.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prompt_counts_once_and_rows_are_named() {
        let training = [("1", "a"), ("2", "b "), ("3", "c"), ("4", "d")];
        let tests = [
            (Split::Eval, vec![("5", "x"), ("6", "b"), ("7", "b")]),
            (
                Split::HeldOut,
                vec![
                    ("8", "a"),
                    ("9", "b"),
                    ("10", "c"),
                    ("11", " d"),
                    ("12", "e"),
                ],
            ),
            (Split::Judge, vec![("13", "x")]),
        ];
        let found = shared(&training, &tests);
        assert_eq!(
            in_words(&found, "cure").unwrap(),
            "1 of the 2 prompts of eval (rows 6), 4 of the 5 prompts of held-out (rows 8, 9, 10, …) stand in training splits \
             too: cure"
        );
        assert_eq!(in_words(&shared(&training, &tests[2..]), "cure"), None);
    }
}
