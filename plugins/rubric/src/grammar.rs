//! The grammar of responses: a fixed sequence of slots for a prompt, and which words fill a slot.

use crate::assess::DefectKind;
use crate::prompt::Prompt;
use crate::vocabulary::{Class, ORDINALS, verbs};

/// Slots of a point: `<ordinal> the <adjective> <noun> <verb> a <adjective> <noun> .`
pub const SLOTS_PER_POINT: usize = 9;

/// One place of a response that a word must fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// The ordinal of point number `.0`, from 0.
    Ordinal(usize),
    The,
    Adjective,
    /// A noun; `Some` where the prompt asks for a certain one.
    Noun(Option<&'static str>),
    Verb,
    A,
    Stop,
}

impl Slot {
    /// Whether its word may be none that the response has said before. A noun that the prompt asks for here is right
    /// here, said before or not.
    pub(crate) fn is_free(self) -> bool {
        matches!(self, Self::Adjective | Self::Noun(None) | Self::Verb)
    }

    /// The words that fill it, repetitions aside.
    pub(crate) fn words(self, prompt: &Prompt) -> Vec<&'static str> {
        match self {
            Self::Ordinal(number) => vec![ORDINALS[number]],
            Self::The => vec!["the"],
            Self::A => vec!["a"],
            Self::Stop => vec!["."],
            Self::Adjective => prompt.tone().adjectives().to_vec(),
            Self::Noun(Some(noun)) => vec![noun],
            Self::Noun(None) => prompt.topic().nouns().to_vec(),
            Self::Verb => verbs().collect(),
        }
    }
}

/// The slots that a response to `prompt` must fill, in order.
pub(crate) fn slots(prompt: &Prompt) -> Vec<Slot> {
    let last_point = prompt.points() - 1;
    (0..prompt.points())
        .flat_map(|point| {
            [
                Slot::Ordinal(point),
                Slot::The,
                Slot::Adjective,
                Slot::Noun(prompt.first().filter(|_| point == 0)),
                Slot::Verb,
                Slot::A,
                Slot::Adjective,
                Slot::Noun(prompt.last().filter(|_| point == last_point)),
                Slot::Stop,
            ]
        })
        .collect()
}

/// What is wrong with `word`, which is of `class`, in `slot`, repetitions aside; `None` where it fills the slot.
pub(crate) fn fault(slot: Slot, word: &str, class: Class, prompt: &Prompt) -> Option<DefectKind> {
    match (slot, class) {
        (Slot::Ordinal(wanted), Class::Ordinal(found)) => {
            (found != wanted).then_some(DefectKind::WrongOrdinal)
        }
        (Slot::The, Class::The)
        | (Slot::A, Class::A)
        | (Slot::Stop, Class::Stop)
        | (Slot::Verb, Class::Verb) => None,
        (Slot::Adjective, Class::Adjective(tone)) => {
            (tone != prompt.tone()).then_some(DefectKind::WrongTone)
        }
        (Slot::Noun(wanted), Class::Noun(topic)) => {
            if topic != prompt.topic() {
                return Some(DefectKind::OffTopic);
            }
            wanted
                .is_some_and(|noun| noun != word)
                .then_some(DefectKind::WrongNoun)
        }
        (Slot::Verb, Class::BareVerb(_)) => Some(DefectKind::Agreement),
        _ => Some(DefectKind::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::classify;

    #[test]
    fn every_word_that_a_slot_lists_fills_it() {
        for index in (0..Prompt::count()).step_by(37) {
            let prompt = Prompt::nth(index).expect("below the count");
            let slots = slots(&prompt);
            assert_eq!(slots.len(), prompt.points() * SLOTS_PER_POINT);
            for slot in slots {
                let words = slot.words(&prompt);
                assert!(!words.is_empty());
                assert!(
                    words
                        .iter()
                        .all(|word| fault(slot, word, classify(word), &prompt).is_none())
                );
            }
        }
    }
}
