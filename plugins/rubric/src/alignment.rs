//! The cheapest alignment of a text's words with the slots of a prompt. Legend: W words, S slots.
//!
//! The state machine over words: reading a word either fills the next slot or is surplus, and slots may be passed over.
//! Of all runs the one with the smallest penalty counts (edit distance with the penalties of the score), so that one
//! lost or doubled word does not make the rest of the text wrong.

use crate::assess::DefectKind;
use crate::grammar::Slot;
use crate::vocabulary::classify;

/// Penalties, in units of which the score's 1 is [`UNIT`]: a wrong or a missing slot costs 2, a surplus word 1.
const WRONG: u32 = 2 * UNIT;
/// A little more than [`WRONG`]: among alignments of the same score, words go to slots of their own class.
const MALFORMED: u32 = WRONG + 1;
const MISSING: u32 = 2 * UNIT;
const SURPLUS: u32 = UNIT;
/// More than there are slots, so that no number of malformed words outweighs a step of the score.
const UNIT: u32 = 1024;

/// One step of an alignment, in the order of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Word `word` stands in slot `slot`, with what is wrong with it there.
    Filled {
        word: usize,
        slot: usize,
        fault: Option<DefectKind>,
    },
    /// Slot `slot` was passed over before word `before` (W where the text ended).
    Missing { slot: usize, before: usize },
    /// Word `word` fills no slot.
    Surplus { word: usize },
}

#[derive(Clone, Copy)]
enum Move {
    Fill,
    Missing,
    Surplus,
}

/// The cheapest alignment; O(W · S) time, a byte per cell.
///
/// Among equals, words fill slots as early as they can: of a word said twice the second is surplus, and what is missing
/// is missing late.
pub(crate) fn align(slots: &[Slot], words: &[&str]) -> Vec<Step> {
    let width = slots.len() + 1;
    let mut moves = Vec::with_capacity((words.len() + 1) * width);
    // costs[s]: the cheapest way to have read the words so far and passed s slots.
    let mut costs: Vec<u32> = (0..width as u32).map(|passed| passed * MISSING).collect();
    moves.extend(std::iter::repeat_n(Move::Missing, width));
    for word in words {
        let class = classify(word);
        let mut diagonal = costs[0];
        costs[0] = diagonal.saturating_add(SURPLUS);
        moves.push(Move::Surplus);
        for (index, &slot) in slots.iter().enumerate() {
            let fill = diagonal.saturating_add(match slot.fault(class) {
                None => 0,
                Some(DefectKind::Malformed) => MALFORMED,
                Some(_) => WRONG,
            });
            diagonal = costs[index + 1];
            let surplus = diagonal.saturating_add(SURPLUS);
            let missing = costs[index].saturating_add(MISSING);
            let best = fill.min(surplus).min(missing);
            costs[index + 1] = best;
            moves.push(if surplus == best {
                Move::Surplus
            } else if missing == best {
                Move::Missing
            } else {
                Move::Fill
            });
        }
    }

    let (mut word, mut slot) = (words.len(), slots.len());
    let mut steps = Vec::with_capacity(word.max(slot));
    while word > 0 || slot > 0 {
        steps.push(match moves[word * width + slot] {
            Move::Fill => {
                (word, slot) = (word - 1, slot - 1);
                Step::Filled {
                    word,
                    slot,
                    fault: slots[slot].fault(classify(words[word])),
                }
            }
            Move::Missing => {
                slot -= 1;
                Step::Missing { slot, before: word }
            }
            Move::Surplus => {
                word -= 1;
                Step::Surplus { word }
            }
        });
    }
    steps.reverse();
    mark_repetitions(&mut steps, slots, words);
    steps
}

/// Marks every word that must differ from those before it and does not.
fn mark_repetitions(steps: &mut [Step], slots: &[Slot], words: &[&str]) {
    let mut said: Vec<&str> = Vec::new();
    for step in steps {
        if let Step::Filled {
            word,
            slot,
            fault: fault @ None,
        } = step
            && slots[*slot].must_differ()
        {
            if said.contains(&words[*word]) {
                *fault = Some(DefectKind::Repeated);
            } else {
                said.push(words[*word]);
            }
        }
    }
}
