//! The known names nearest to a mistyped one.

/// At most `limit` of `known`, nearest to `typed` first; none where nothing is near.
pub fn nearest<'a>(
    typed: &str,
    known: impl IntoIterator<Item = &'a str>,
    limit: usize,
) -> Vec<&'a str> {
    let mut scored: Vec<(f64, &str)> = known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(typed, name), name))
        // Below this, suggestions for keys of six or more letters are noise rather than typing errors.
        .filter(|(score, _)| *score >= 0.75)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored
        .into_iter()
        .take(limit)
        .map(|(_, name)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_comes_first_and_strangers_are_left_out() {
        let known = ["learning_rate", "label_noise", "epochs"];
        assert_eq!(nearest("learning_rat", known, 3)[0], "learning_rate");
        assert_eq!(nearest("lable_noise", known, 1), ["label_noise"]);
        assert!(nearest("zzz", known, 3).is_empty());
    }
}
