//! Repairs: the smallest edit that leaves no defect, touching the defective words and no other.

use crate::alignment::{Step, align};
use crate::grammar::{Slot, slots};
use crate::prompt::Prompt;
use crate::vocabulary::{Class, classify};

/// The response with its defects repaired: a wrong word is replaced, a missing one inserted, a surplus one deleted, and
/// every other word stays. The result has no defect; a response without defects comes back as it is (words joined by
/// single spaces).
///
/// Where several words would do, `key` decides: the same key gives the same text.
pub fn repair(prompt: &Prompt, response: &str, key: u64) -> String {
    let words: Vec<&str> = response.split_whitespace().collect();
    let slots = slots(prompt);
    let steps = align(&slots, &words);
    let mut said: Vec<&str> = steps
        .iter()
        .filter_map(|step| match *step {
            Step::Filled {
                word, fault: None, ..
            } => Some(words[word]),
            _ => None,
        })
        .collect();
    let mut repaired: Vec<&str> = Vec::with_capacity(slots.len());
    for step in steps {
        let (slot, found) = match step {
            Step::Surplus { .. } => continue,
            Step::Filled {
                word, fault: None, ..
            } => {
                repaired.push(words[word]);
                continue;
            }
            Step::Filled { word, slot, .. } => (slot, Some(words[word])),
            Step::Missing { slot, .. } => (slot, None),
        };
        let word = substitute(
            slots[slot],
            found,
            &said,
            mix(key.wrapping_add(slot as u64)),
        );
        said.push(word);
        repaired.push(word);
    }
    repaired.join(" ")
}

/// The word that replaces `found` (or nothing) in `slot`, not one of those already `said`.
fn substitute(slot: Slot, found: Option<&str>, said: &[&str], draw: u64) -> &'static str {
    // A verb that does not agree keeps its meaning where it can.
    if let (Slot::Verb(_), Some(Class::BareVerb(verb))) = (slot, found.map(classify))
        && slot.fault(classify(verb)).is_none()
        && !said.contains(&verb)
    {
        return verb;
    }
    let words = slot.words();
    let unsaid: Vec<&'static str> = words
        .iter()
        .copied()
        .filter(|word| !slot.must_differ() || !said.contains(word))
        .collect();
    assert!(
        !unsaid.is_empty(),
        "invariant: a class whose words must differ has more of them than a response has slots"
    );
    unsaid[(draw % unsaid.len() as u64) as usize]
}

/// `SplitMix64`'s finaliser: spreads neighbouring keys over all words.
fn mix(key: u64) -> u64 {
    let mut z = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assess::assess;
    use crate::demonstrate::demonstrate;
    use crate::vocabulary::vocabulary;

    /// Draws for tests: a counter through the finaliser.
    fn draws(seed: u64) -> impl FnMut() -> u64 {
        let mut state = mix(seed);
        move || {
            state = state.wrapping_add(1);
            mix(state)
        }
    }

    #[test]
    fn repairs_touch_the_defective_words_and_no_other() {
        let prompt: Prompt = "write two points of care from the kind sea to the grand city"
            .parse()
            .expect("a prompt");
        let response = "first the gentle cloud guards a silly bridge . second the sailor greet a a proud tram .";
        let repaired = repair(&prompt, response, 7);
        let words: Vec<&str> = repaired.split(' ').collect();
        assert_eq!(assess(&prompt, &repaired).defects, []);
        let one_of = |class: &[&str], word: &str, said: &str| class.contains(&word) && word != said;
        let (subject, object) = (prompt.subject(), prompt.object());
        assert_eq!(words[..3], ["first", "the", "gentle"]);
        assert!(one_of(subject.topic.nouns(), words[3], "sailor"));
        assert_eq!(words[4..6], ["guards", "a"]);
        assert!(one_of(object.tone.adjectives(), words[6], "proud"));
        assert_eq!(words[7..11], ["bridge", ".", "second", "the"]);
        assert!(one_of(subject.tone.adjectives(), words[11], "gentle"));
        assert_eq!(words[12..], ["sailor", "greets", "a", "proud", "tram", "."]);
    }

    /// The example and the counts of docs/sandbox.md are what the code gives.
    #[test]
    fn the_documentation_shows_a_true_example() {
        let page = include_str!("../../../docs/sandbox.md");
        let line = |label: &str| {
            let example = page.split("## An example").nth(1).expect("the example");
            let mut lines = example.lines();
            let line = lines
                .find_map(|line| line.strip_prefix(label))
                .expect(label);
            line.trim()
        };
        let prompt = line("prompt").parse().expect("a prompt");
        assert_eq!(assess(&prompt, line("response")).score, 0.5);
        assert_eq!(repair(&prompt, line("response"), 0), line("repair"));
        let counts = format!(
            "{} prompts and {} words",
            Prompt::count(),
            vocabulary().len()
        );
        assert!(page.contains(&counts), "{counts}");
    }

    #[test]
    fn any_text_is_repaired_and_a_second_repair_changes_nothing() {
        let vocabulary = vocabulary();
        for case in 0..400 {
            let mut draw = draws(case);
            let prompt = Prompt::nth(draw() as usize % Prompt::count()).expect("below the count");
            let response = if case % 2 == 0 {
                demonstrate(&prompt, 0.4, &mut draw)
            } else {
                // Words from anywhere, many of them out of grammar.
                let words = 0..draw() % 50;
                let pick = |_| vocabulary[draw() as usize % vocabulary.len()];
                words.map(pick).collect::<Vec<_>>().join(" ")
            };
            let repaired = repair(&prompt, &response, case);
            let assessment = assess(&prompt, &repaired);
            assert_eq!(assessment.defects, [], "{prompt}\n{response}\n{repaired}");
            assert_eq!(repair(&prompt, &repaired, case + 1), repaired);
        }
    }

    #[test]
    fn the_key_decides_between_words_that_would_do() {
        let prompt = "write one point of craft from the plain farm to the kind sky"
            .parse()
            .expect("a prompt");
        let repairs: std::collections::BTreeSet<String> =
            (0..20).map(|key| repair(&prompt, "", key)).collect();
        assert!(repairs.len() > 10);
        assert_eq!(repair(&prompt, "", 3), repair(&prompt, "", 3));
    }
}
