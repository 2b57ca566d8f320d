//! Demonstrations: responses that are right but for defects at a given rate, as a careless annotator would write them.

use crate::grammar::{SLOTS_PER_POINT, Slot, point, slots};
use crate::prompt::{MAX_POINTS, Prompt};
use crate::vocabulary::{ORDINALS, bare_form};

/// A response to `prompt` in which each ordinal, adjective, noun and verb is defective with probability `defect_rate`,
/// and so is the number of points.
///
/// Words are mostly mistaken for those of one neighbouring topic, tone or manner, or those of the other phrase of the
/// prompt, so that a model can learn the mistakes as well as the language. A quarter of the defective adjectives are left
/// out, and verbs may be repeated. `draw` returns uniform 64-bit numbers; the text is a function of the prompt, the rate
/// and the draws.
pub fn demonstrate(prompt: &Prompt, defect_rate: f64, draw: &mut impl FnMut() -> u64) -> String {
    let mut writer = Writer {
        prompt,
        defect_rate,
        draw,
        said: Vec::new(),
        text: Vec::new(),
    };
    let mut slots = slots(prompt);
    if writer.is_defective() {
        let points = prompt.points();
        let more = points == 1 || (points < MAX_POINTS && writer.below(2) == 0);
        if more {
            slots.extend(point(prompt, points));
        } else {
            slots.truncate(slots.len() - SLOTS_PER_POINT);
        }
    }
    for slot in slots {
        writer.write(slot);
    }
    writer.text.join(" ")
}

struct Writer<'a, D> {
    prompt: &'a Prompt,
    defect_rate: f64,
    draw: &'a mut D,
    /// The words of the text so far that are right.
    said: Vec<&'static str>,
    text: Vec<&'static str>,
}

impl<D: FnMut() -> u64> Writer<'_, D> {
    fn below(&mut self, n: usize) -> usize {
        ((self.draw)() % n as u64) as usize
    }

    fn is_defective(&mut self) -> bool {
        // 53 bits: every value is a double in [0, 1).
        let uniform = ((self.draw)() >> 11) as f64 / (1_u64 << 53) as f64;
        uniform < self.defect_rate
    }

    fn pick(&mut self, words: &[&'static str]) -> &'static str {
        words[self.below(words.len())]
    }

    fn write(&mut self, slot: Slot) {
        let words = slot.words();
        if matches!(slot, Slot::The | Slot::A | Slot::Stop) {
            self.text.extend(words);
            return;
        }
        let unsaid: Vec<&'static str> = words
            .iter()
            .copied()
            .filter(|word| !slot.must_differ() || !self.said.contains(word))
            .collect();
        let right = self.pick(&unsaid);
        if self.is_defective() {
            let wrong = self.mistake(slot, &words, right);
            self.text.extend(wrong);
        } else {
            self.text.push(right);
            self.said.push(right);
        }
    }

    /// What a careless annotator writes in `slot` instead of `right`; `None` leaves it out.
    fn mistake(
        &mut self,
        slot: Slot,
        words: &[&'static str],
        right: &'static str,
    ) -> Option<&'static str> {
        let choice = self.below(4);
        let said: Vec<&'static str> = words
            .iter()
            .copied()
            .filter(|word| slot.must_differ() && self.said.contains(word))
            .collect();
        let (subject, object) = (self.prompt.subject(), self.prompt.object());
        match slot {
            Slot::Ordinal(number) => Some(ORDINALS[(number + 1) % ORDINALS.len()]),
            Slot::Adjective(_) if choice == 0 => None,
            _ if choice == 1 && !said.is_empty() => Some(self.pick(&said)),
            Slot::Adjective(tone) if choice == 2 => {
                let other = if tone == subject.tone {
                    object
                } else {
                    subject
                };
                Some(self.pick(other.tone.adjectives()))
            }
            Slot::Adjective(tone) => Some(self.pick(tone.neighbour().adjectives())),
            Slot::Noun(topic) if choice == 2 => {
                let other = if topic == subject.topic {
                    object
                } else {
                    subject
                };
                Some(self.pick(other.topic.nouns()))
            }
            Slot::Noun(topic) => Some(self.pick(topic.neighbour().nouns())),
            Slot::Verb(_) if choice < 2 => bare_form(right),
            Slot::Verb(manner) => {
                let verbs: Vec<&'static str> = manner.neighbour().verbs().collect();
                Some(self.pick(&verbs))
            }
            Slot::The | Slot::A | Slot::Stop => {
                unreachable!("invariant: function words are written without defects")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assess::{DefectKind, assess};

    /// A linear congruential generator with its upper bits moved down; enough for counting.
    fn draws(mut state: u64) -> impl FnMut() -> u64 {
        move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) ^ (state << 32)
        }
    }

    fn prompts() -> impl Iterator<Item = Prompt> {
        (0..Prompt::count()).step_by(13).filter_map(Prompt::nth)
    }

    #[test]
    fn without_defects_every_demonstration_is_right() {
        let mut draw = draws(1);
        for prompt in prompts() {
            let response = demonstrate(&prompt, 0.0, &mut draw);
            assert_eq!(
                assess(&prompt, &response).defects,
                [],
                "{prompt}: {response}"
            );
        }
    }

    #[test]
    fn defects_come_at_about_the_rate_that_was_asked_for() {
        let mut draw = draws(2);
        let (mut spoilt, mut open) = (0.0, 0.0);
        let mut kinds = std::collections::BTreeSet::new();
        for prompt in prompts() {
            let response = demonstrate(&prompt, 0.15, &mut draw);
            let assessment = assess(&prompt, &response);
            kinds.extend(assessment.defects.iter().map(|defect| defect.kind));
            spoilt += assessment.defects.len() as f64;
            // Six words a point can be defective, and the number of points.
            open += (6 * prompt.points() + 1) as f64;
        }
        let rate = spoilt / open;
        // A point that is left out is one defect and takes those of its six words with it: a little below the rate.
        assert!((0.13..0.15).contains(&rate), "{rate}");
        let expected = [
            DefectKind::OffTopic,
            DefectKind::WrongManner,
            DefectKind::WrongTone,
            DefectKind::WrongOrdinal,
            DefectKind::Agreement,
            DefectKind::Repeated,
            DefectKind::Missing,
            DefectKind::Surplus,
        ];
        assert!(
            expected.iter().all(|kind| kinds.contains(kind)),
            "{kinds:?}"
        );
    }

    #[test]
    fn the_same_draws_write_the_same_text() {
        let prompt = Prompt::nth(77).expect("below the count");
        assert_eq!(
            demonstrate(&prompt, 0.5, &mut draws(5)),
            demonstrate(&prompt, 0.5, &mut draws(5))
        );
    }
}
