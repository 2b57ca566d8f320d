//! Did the script change? Counts of letters by Unicode's property Script (UAX #24).
//!
//! A text that went from English into French is not noticed by this; one that went into Russian or Chinese is.

use std::collections::BTreeMap;

use unicode_script::{Script, UnicodeScript};

/// Letters by the name of their script; those that belong to no script of their own are not counted.
pub fn letters(text: &str) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for char in text.chars().filter(|char| char.is_alphabetic()) {
        let script = char.script();
        if !matches!(script, Script::Common | Script::Inherited | Script::Unknown) {
            *counts.entry(script.full_name()).or_default() += 1;
        }
    }
    counts
}

/// Half the sum over scripts of the difference between their shares of the letters, in [0, 1]: the total variation
/// distance. 0 where one of the texts has no letters.
pub fn change(response: &str, edited: &str) -> f64 {
    let (old, new) = (letters(response), letters(edited));
    let total = |counts: &BTreeMap<&str, usize>| counts.values().sum::<usize>() as f64;
    let (of_old, of_new) = (total(&old), total(&new));
    if of_old == 0.0 || of_new == 0.0 {
        return 0.0;
    }
    // What the edit has more; what it has less is the same amount.
    new.iter()
        .map(|(script, count)| {
            let before = old.get(script).copied().unwrap_or_default() as f64 / of_old;
            (*count as f64 / of_new - before).max(0.0)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_counted_by_script() {
        let counts = letters("Año 1: Москва, 東京 ok…");
        assert_eq!(counts["Latin"], 5);
        assert_eq!(counts["Cyrillic"], 6);
        assert_eq!(counts["Han"], 2);
        assert_eq!(counts.len(), 3);
    }

    #[test]
    fn a_change_is_the_share_of_letters_that_went_over() {
        assert_eq!(change("good day", "guten Tag"), 0.0);
        assert_eq!(change("good day", "добрый день"), 1.0);
        assert_eq!(change("aabb", "aaдд"), 0.5);
        assert_eq!(change("42", "сорок два"), 0.0);
        assert_eq!(change("", ""), 0.0);
    }
}
