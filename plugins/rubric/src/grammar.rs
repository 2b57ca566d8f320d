//! The grammar of responses: a fixed sequence of slots for a prompt, and which words fill a slot.

use crate::assess::DefectKind;
use crate::prompt::Prompt;
use crate::vocabulary::{Class, Manner, ORDINALS, Tone, Topic};

/// Slots of a point: `<ordinal> the <adjective> <noun> <verb> a <adjective> <noun> .`
pub const SLOTS_PER_POINT: usize = 9;

/// One place of a response that a word must fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// The ordinal of point number `.0`, from 0.
    Ordinal(usize),
    The,
    Adjective(Tone),
    Noun(Topic),
    Verb(Manner),
    A,
    Stop,
}

impl Slot {
    /// Whether its word must be one that the response has not said before.
    pub(crate) fn must_differ(self) -> bool {
        matches!(self, Self::Verb(_))
    }

    /// The words that fill it, repetitions aside.
    pub(crate) fn words(self) -> Vec<&'static str> {
        match self {
            Self::Ordinal(number) => vec![ORDINALS[number]],
            Self::The => vec!["the"],
            Self::A => vec!["a"],
            Self::Stop => vec!["."],
            Self::Adjective(tone) => tone.adjectives().to_vec(),
            Self::Noun(topic) => topic.nouns().to_vec(),
            Self::Verb(manner) => manner.verbs().collect(),
        }
    }

    /// What is wrong with a word of `class` here, repetitions aside; `None` where it fills the slot.
    pub(crate) fn fault(self, class: Class) -> Option<DefectKind> {
        let (fills, kind) = match (self, class) {
            (Self::The, Class::The) | (Self::A, Class::A) | (Self::Stop, Class::Stop) => {
                return None;
            }
            (Self::Ordinal(wanted), Class::Ordinal(found)) => {
                (found == wanted, DefectKind::WrongOrdinal)
            }
            (Self::Adjective(wanted), Class::Adjective(found)) => {
                (found == wanted, DefectKind::WrongTone)
            }
            (Self::Noun(wanted), Class::Noun(found)) => (found == wanted, DefectKind::OffTopic),
            (Self::Verb(wanted), Class::Verb(found)) => (found == wanted, DefectKind::WrongManner),
            (Self::Verb(_), Class::BareVerb(_)) => (false, DefectKind::Agreement),
            _ => (false, DefectKind::Malformed),
        };
        (!fills).then_some(kind)
    }
}

/// The slots of point number `number`, from 0, of a response to `prompt`.
pub(crate) fn point(prompt: &Prompt, number: usize) -> [Slot; SLOTS_PER_POINT] {
    [
        Slot::Ordinal(number),
        Slot::The,
        Slot::Adjective(prompt.subject().tone),
        Slot::Noun(prompt.subject().topic),
        Slot::Verb(prompt.manner()),
        Slot::A,
        Slot::Adjective(prompt.object().tone),
        Slot::Noun(prompt.object().topic),
        Slot::Stop,
    ]
}

/// The slots that a response to `prompt` must fill, in order.
pub(crate) fn slots(prompt: &Prompt) -> Vec<Slot> {
    (0..prompt.points())
        .flat_map(|number| point(prompt, number))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::MAX_POINTS;
    use crate::vocabulary::classify;

    #[test]
    fn every_word_that_a_slot_lists_fills_it() {
        for index in (0..Prompt::count()).step_by(37) {
            let prompt = Prompt::nth(index).expect("below the count");
            let slots = slots(&prompt);
            assert_eq!(slots.len(), prompt.points() * SLOTS_PER_POINT);
            for slot in slots {
                let words = slot.words();
                assert!(
                    words
                        .iter()
                        .all(|word| slot.fault(classify(word)).is_none())
                );
                // Repairs and demonstrations need a word that was not said before.
                assert!(!slot.must_differ() || words.len() >= MAX_POINTS);
            }
        }
    }
}
