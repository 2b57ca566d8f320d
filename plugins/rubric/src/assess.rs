//! The hidden rubric: a score for any text, and the words that are defective.
//!
//! `score = (correct − wrong − missing − surplus) / required`, where `required` slots are asked for by the prompt, and
//! every slot is correct, wrong (a word stands there that does not fill it) or missing, and every word that stands in no
//! slot is surplus. A good answer has 1, an empty one −1; a wrong or missing slot costs 2 / required, a surplus word
//! 1 / required without end. So there is nothing to gain from saying less (each missing slot costs as much as a wrong
//! one), more (each extra word costs) or the same again (a repeated verb is wrong).

use std::fmt;
use std::ops::Range;

use crate::alignment::{Step, align};
use crate::grammar::slots;
use crate::prompt::Prompt;

/// What is wrong with a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DefectKind {
    /// A noun of another topic than this place asks for.
    OffTopic,
    /// An adjective of another tone than this place asks for.
    WrongTone,
    /// An ordinal that is not this point's.
    WrongOrdinal,
    /// A verb of another manner.
    WrongManner,
    /// A verb that does not agree with its subject.
    Agreement,
    /// A verb that an earlier slot already holds.
    Repeated,
    /// A word that cannot stand in this kind of slot at all.
    Malformed,
    /// Slots passed over: the defective word is the one that came too early, or the end of the sequence.
    Missing,
    /// A word that nothing asked for.
    Surplus,
}

impl DefectKind {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::OffTopic => "off topic",
            Self::WrongTone => "wrong tone",
            Self::WrongOrdinal => "wrong ordinal",
            Self::WrongManner => "wrong manner",
            Self::Agreement => "agreement",
            Self::Repeated => "repeated",
            Self::Malformed => "malformed",
            Self::Missing => "missing",
            Self::Surplus => "surplus",
        }
    }
}

impl fmt::Display for DefectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One defect of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    /// The defective words, as indices of the text's whitespace-separated words. `words.len()..words.len() + 1` is the
    /// end of the sequence: the text ended too early.
    pub words: Range<usize>,
    /// What is wrong.
    pub kind: DefectKind,
    /// How many slots (for surplus words: words) it spoils; at least 1.
    pub weight: usize,
}

/// A response under the rubric.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    /// (correct − wrong − missing − surplus) / required, at most 1.
    pub score: f64,
    /// The defects in the order of the text; empty exactly where the score is 1.
    pub defects: Vec<Defect>,
    /// Slots that the prompt asks for.
    pub required: usize,
    /// Slots that hold a word which fills them.
    pub correct: usize,
    /// Slots that hold a word which does not.
    pub wrong: usize,
    /// Slots that hold no word.
    pub missing: usize,
    /// Words that stand in no slot.
    pub surplus: usize,
}

/// Assesses any text as a response to `prompt`; words are what whitespace separates.
pub fn assess(prompt: &Prompt, response: &str) -> Assessment {
    let words: Vec<&str> = response.split_whitespace().collect();
    let slots = slots(prompt);
    let mut assessment = Assessment {
        score: 0.0,
        defects: Vec::new(),
        required: slots.len(),
        correct: 0,
        wrong: 0,
        missing: 0,
        surplus: 0,
    };
    for step in align(&slots, &words) {
        let (words, kind) = match step {
            Step::Filled { fault: None, .. } => {
                assessment.correct += 1;
                continue;
            }
            Step::Filled {
                word,
                fault: Some(kind),
                ..
            } => {
                assessment.wrong += 1;
                (word..word + 1, kind)
            }
            Step::Missing { before, .. } => {
                assessment.missing += 1;
                (before..before + 1, DefectKind::Missing)
            }
            Step::Surplus { word } => {
                assessment.surplus += 1;
                (word..word + 1, DefectKind::Surplus)
            }
        };
        match assessment.defects.last_mut() {
            Some(last)
                if last.kind == kind && kind == DefectKind::Missing && last.words == words =>
            {
                last.weight += 1;
            }
            Some(last)
                if last.kind == kind
                    && kind == DefectKind::Surplus
                    && last.words.end == words.start =>
            {
                last.words.end = words.end;
                last.weight += 1;
            }
            _ => assessment.defects.push(Defect {
                words,
                kind,
                weight: 1,
            }),
        }
    }
    let penalty = assessment.wrong + assessment.missing + assessment.surplus;
    assessment.score = (assessment.correct as f64 - penalty as f64) / assessment.required as f64;
    assessment
}

/// Which tokens of a response are defective, one entry per word and, where `ended`, one more for the end of the sequence.
///
/// What is missing at the end belongs to the end-of-sequence token, or to the last word where the response has none
/// (an empty response that did not end has no token that could be defective).
pub fn defect_mask(prompt: &Prompt, response: &str, ended: bool) -> Vec<bool> {
    let tokens = response.split_whitespace().count() + usize::from(ended);
    let mut mask = vec![false; tokens];
    if let Some(last) = tokens.checked_sub(1) {
        // Clamped: a defect past the last token moves onto it.
        for defect in assess(prompt, response).defects {
            mask[defect.words.start.min(last)..defect.words.end.min(tokens)].fill(true);
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use DefectKind::*;

    const PROMPT: &str = "write two points of care from the kind sea to the grand city";
    const GOOD: &str = "first the gentle wave guards a mighty bridge . second the tender sailor greets a proud tram .";

    fn assess_text(response: &str) -> Assessment {
        assess(&PROMPT.parse().expect("a prompt"), response)
    }

    /// The defects as (first word, last word + 1, kind, weight).
    fn defects(response: &str) -> Vec<(usize, usize, DefectKind, usize)> {
        assess_text(response)
            .defects
            .into_iter()
            .map(|defect| {
                (
                    defect.words.start,
                    defect.words.end,
                    defect.kind,
                    defect.weight,
                )
            })
            .collect()
    }

    #[test]
    fn a_good_answer_scores_one() {
        let assessment = assess_text(GOOD);
        assert_eq!(assessment.score, 1.0);
        assert_eq!(assessment.defects, []);
        assert_eq!((assessment.correct, assessment.required), (18, 18));
    }

    #[test]
    fn every_kind_of_wrong_word_is_found_where_it_is() {
        for (from, to, at, kind) in [
            ("wave", "cloud", 3, OffTopic),
            ("wave", "market", 3, OffTopic),
            ("mighty", "warm", 6, WrongTone),
            ("greets", "paints", 13, WrongManner),
            ("second", "third", 9, WrongOrdinal),
            ("greets", "greet", 13, Agreement),
            ("greets", "guards", 13, Repeated),
            ("guards", "wave", 4, Malformed),
            ("guards", "sea", 4, Malformed),
            ("tram", "🦀", 16, Malformed),
        ] {
            let response = GOOD.replace(from, to);
            assert_eq!(defects(&response), [(at, at + 1, kind, 1)], "{response}");
            assert_eq!(assess_text(&response).score, 16.0 / 18.0);
        }
    }

    #[test]
    fn a_lost_word_spoils_one_slot_and_no_more() {
        // The noun came where the adjective should have been.
        assert_eq!(defects(&GOOD.replace("gentle ", "")), [(2, 3, Missing, 1)]);
        assert_eq!(assess_text(&GOOD.replace("gentle ", "")).score, 16.0 / 18.0);
        // Without its last full stop the text ends too early.
        assert_eq!(
            defects(GOOD.strip_suffix(" .").expect("a full stop")),
            [(17, 18, Missing, 1)]
        );
    }

    #[test]
    fn a_missing_point_belongs_to_the_end_or_to_the_word_that_came_too_early() {
        let (first, second) = GOOD.split_at(GOOD.find(" second").expect("two points"));
        assert_eq!(defects(first), [(9, 10, Missing, 9)]);
        assert_eq!(assess_text(first).score, 0.0);
        assert_eq!(defects(second), [(0, 1, Missing, 9)]);
    }

    #[test]
    fn surplus_words_are_those_that_come_last() {
        assert_eq!(
            defects(&GOOD.replace("mighty", "mighty mighty")),
            [(7, 8, Surplus, 1)]
        );
        let third = "third the sweet reef feeds a noble lamp .";
        assert_eq!(defects(&format!("{GOOD} {third}")), [(18, 27, Surplus, 9)]);
        assert_eq!(assess_text(&format!("{GOOD} {third}")).score, 0.5);
    }

    #[test]
    fn degenerate_texts_score_below_an_answer_with_some_defects() {
        let fair = assess_text(&GOOD.replace("wave", "cloud").replace("proud", "silly")).score;
        let endless = GOOD.split(" second").next().expect("a point").repeat(9);
        for degenerate in [
            "",
            "first",
            ".",
            "the the the",
            &"bridge ".repeat(18),
            &"wave ".repeat(60),
            &". ".repeat(18),
            &endless,
            &GOOD.repeat(2),
            &format!("{GOOD} {GOOD}"),
        ] {
            let score = assess_text(degenerate).score;
            assert!(score < fair, "{degenerate}: {score}");
        }
        assert_eq!(assess_text("").score, -1.0);
        assert_eq!(defects(""), [(0, 1, Missing, 18)]);
    }

    #[test]
    fn any_single_change_lowers_the_score() {
        let words: Vec<&str> = GOOD.split(' ').collect();
        for at in 0..words.len() {
            let mut shorter = words.clone();
            shorter.remove(at);
            assert!(assess_text(&shorter.join(" ")).score < 1.0);
            let mut doubled = words.clone();
            doubled.insert(at, words[at]);
            assert!(assess_text(&doubled.join(" ")).score < 1.0);
        }
    }

    #[test]
    fn the_mask_has_a_token_per_word_and_one_for_the_end() {
        let prompt = PROMPT.parse().expect("a prompt");
        let first = "first the gentle wave guards a mighty cloud .";
        let mask = defect_mask(&prompt, first, true);
        assert_eq!(mask.len(), 10);
        assert_eq!(
            (0..10).filter(|&at| mask[at]).collect::<Vec<_>>(),
            [7, 9] // `cloud`, and the end that came too early
        );
        let cut = defect_mask(&prompt, first, false);
        assert_eq!(
            (0..9).filter(|&at| cut[at]).collect::<Vec<_>>(),
            [7, 8] // nothing but the last word can stand for what was cut off
        );
        assert_eq!(defect_mask(&prompt, "", true), [true]);
        assert_eq!(defect_mask(&prompt, "", false), [false; 0]);
    }
}
