//! The default limits on edits that people have made, and on texts that are no edits of each other.

use std::path::Path;

use finegrain_sdk::serde_json::{self, Value};

use super::*;

/// Pairs of original and edit from a file of the shared material; `None`, saying so, where it is absent.
fn pairs(
    file: &str,
    pair: impl Fn(&Value) -> Option<(String, String)>,
) -> Option<Vec<(String, String)>> {
    let shared = std::env::var_os("FINEGRAIN_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        Into::into,
    );
    let path = shared.join("data").join(file);
    let Ok(text) = std::fs::read_to_string(&path) else {
        #[expect(clippy::print_stderr, reason = "says why the test checks nothing")]
        {
            eprintln!(
                "skipped: {} does not exist; set FINEGRAIN_SHARED",
                path.display()
            );
        }
        return None;
    };
    let values = text.lines().map(|line| serde_json::from_str(line).unwrap());
    Some(values.filter_map(|value: Value| pair(&value)).collect())
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// The shares of pairs that are minimal edits by all checks: of those that belong together, and of the original of one pair
/// beside the edit of the next.
fn shares(pairs: &[(String, String)]) -> [f64; 2] {
    let minimal = |original: &str, edited: &str| checks("", original, edited).is_empty();
    let edits = pairs
        .iter()
        .filter(|(original, edited)| minimal(original, edited));
    let next = pairs.iter().skip(1);
    let strangers = pairs
        .iter()
        .zip(next)
        .filter(|((original, _), (_, edited))| minimal(original, edited));
    [edits.count(), strangers.count()].map(|count| count as f64 / pairs.len() as f64)
}

/// Reviews that people turned from one opinion to the other by minimal edits, a hundred to two hundred words long.
#[test]
fn edits_of_long_texts_pass_and_strangers_do_not() {
    let Some(pairs) = pairs("cad_imdb/train.jsonl", |row| {
        let (from, to) = match row["original"].as_str()? {
            "negative" => ("negative", "positive"),
            _ => ("positive", "negative"),
        };
        Some((text(&row[from])?, text(&row[to])?))
    }) else {
        return;
    };
    let [edits, strangers] = shares(&pairs);
    // 1657 of 1707; 39 of the others differ in white space at the ends.
    assert!(edits > 0.96, "{edits}");
    assert_eq!(strangers, 0.0);
}

/// Sentences of seven words, edited for another label: many of the edits are new sentences.
#[test]
fn edits_of_short_texts_pass_where_they_keep_the_sentence() {
    let Some(pairs) = pairs("cad_nli/train.jsonl", |row| {
        let edited = &row["edited"][0]["hypothesis"];
        Some((text(&row["original"]["hypothesis"])?, text(edited)?))
    }) else {
        return;
    };
    let [edits, strangers] = shares(&pairs);
    assert!(edits > 0.6, "{edits}");
    assert!(strangers < 0.05, "{strangers}");
}

/// Rude sentences and their polite paraphrases, which are not always edits.
#[test]
fn paraphrases_pass_where_they_keep_the_sentence() {
    let Some(pairs) = pairs("paradetox/paradetox.jsonl", |row| {
        Some((text(&row["toxic"])?, text(&row["neutral"][0])?))
    }) else {
        return;
    };
    let [edits, strangers] = shares(&pairs);
    assert!(edits > 0.6, "{edits}");
    assert!(strangers < 0.001, "{strangers}");
}
