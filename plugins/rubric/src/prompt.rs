//! Prompts: `write <count> point(s) of <manner> from the <tone> <topic> to the <tone> <topic>`.

use std::fmt;
use std::str::FromStr;

use crate::vocabulary::{COUNTS, Manner, Tone, Topic};

/// The largest number of points that a prompt asks for.
pub const MAX_POINTS: usize = COUNTS.len();

/// The subject or the object of every point: nouns of one topic, adjectives in one tone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phrase {
    /// The tone of its adjectives.
    pub tone: Tone,
    /// The topic of its nouns.
    pub topic: Topic,
}

/// A prompt: how many points, with verbs of which manner, about which subject and which object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prompt {
    points: usize,
    manner: Manner,
    subject: Phrase,
    object: Phrase,
}

impl Prompt {
    /// How many different prompts there are.
    pub fn count() -> usize {
        MAX_POINTS
            * Manner::COUNT
            * (Tone::COUNT * (Tone::COUNT - 1))
            * (Topic::COUNT * (Topic::COUNT - 1))
    }

    /// Prompt number `index` of all prompts, each exactly once.
    ///
    /// `None` where `index` is not below [`Prompt::count`].
    pub fn nth(index: usize) -> Option<Self> {
        if index >= Self::count() {
            return None;
        }
        let (index, points) = (index / MAX_POINTS, index % MAX_POINTS + 1);
        let (index, manner) = (index / Manner::COUNT, index % Manner::COUNT);
        let (topics, tones) = distinct_pair(index, Tone::COUNT);
        let (_, topics) = distinct_pair(topics, Topic::COUNT);
        let phrase = |tone, topic| Phrase {
            tone: Tone::nth(tone),
            topic: Topic::nth(topic),
        };
        Some(Self {
            points,
            manner: Manner::nth(manner),
            subject: phrase(tones.0, topics.0),
            object: phrase(tones.1, topics.1),
        })
    }

    /// How many points are asked for: 1 to [`MAX_POINTS`].
    pub fn points(&self) -> usize {
        self.points
    }

    /// The manner that verbs must have.
    pub fn manner(&self) -> Manner {
        self.manner
    }

    /// What every point begins with.
    pub fn subject(&self) -> Phrase {
        self.subject
    }

    /// What every point ends with; neither tone nor topic is the subject's.
    pub fn object(&self) -> Phrase {
        self.object
    }
}

/// Pair number `index % (n (n − 1))` of two different numbers below `n`, and what is left of the index.
fn distinct_pair(index: usize, n: usize) -> (usize, (usize, usize)) {
    let (index, first) = (index / n, index % n);
    let (index, step) = (index / (n - 1), index % (n - 1));
    (index, (first, (first + 1 + step) % n))
}

impl fmt::Display for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "write {} {} of {} from the {} {} to the {} {}",
            COUNTS[self.points - 1],
            if self.points == 1 { "point" } else { "points" },
            self.manner.name(),
            self.subject.tone.name(),
            self.subject.topic.name(),
            self.object.tone.name(),
            self.object.topic.name()
        )
    }
}

/// A text that is no prompt of the sandbox: which word was found, and what would have been one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptError {
    found: Option<String>,
    position: usize,
    expected: String,
}

impl fmt::Display for PromptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a prompt of the sandbox: ")?;
        match &self.found {
            Some(word) => write!(f, "word {} is `{word}`", self.position)?,
            None => write!(f, "it ends before word {}", self.position)?,
        }
        write!(f, ", expected {}", self.expected)
    }
}

impl std::error::Error for PromptError {}

/// The words of a text with a count of those read.
struct Words<'a> {
    words: std::str::SplitWhitespace<'a>,
    read: usize,
}

impl Words<'_> {
    /// The next word as `parse` reads it, or an error that says what was `expected`.
    fn read<T>(
        &mut self,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, PromptError> {
        self.read += 1;
        let word = self.words.next();
        word.and_then(parse).ok_or_else(|| PromptError {
            found: word.map(str::to_owned),
            position: self.read,
            expected: expected.to_owned(),
        })
    }

    /// Reads one certain word.
    fn literal(&mut self, wanted: &str) -> Result<(), PromptError> {
        self.read(&format!("`{wanted}`"), |word| {
            (word == wanted).then_some(())
        })
    }

    fn tone(&mut self, taken: Option<Tone>) -> Result<Tone, PromptError> {
        self.read("a tone that was not named before", |word| {
            Tone::named(word).filter(|&tone| Some(tone) != taken)
        })
    }

    fn topic(&mut self, taken: Option<Topic>) -> Result<Topic, PromptError> {
        self.read("a topic that was not named before", |word| {
            Topic::named(word).filter(|&topic| Some(topic) != taken)
        })
    }
}

impl FromStr for Prompt {
    type Err = PromptError;

    fn from_str(text: &str) -> Result<Self, PromptError> {
        let mut words = Words {
            words: text.split_whitespace(),
            read: 0,
        };
        words.literal("write")?;
        let points = words.read(&format!("one of {}", COUNTS.join(", ")), |word| {
            COUNTS.iter().position(|&count| count == word)
        })? + 1;
        words.literal(if points == 1 { "point" } else { "points" })?;
        words.literal("of")?;
        let manner = words.read("a manner", Manner::named)?;
        words.literal("from")?;
        words.literal("the")?;
        let subject = Phrase {
            tone: words.tone(None)?,
            topic: words.topic(None)?,
        };
        words.literal("to")?;
        words.literal("the")?;
        let object = Phrase {
            tone: words.tone(Some(subject.tone))?,
            topic: words.topic(Some(subject.topic))?,
        };
        if words.words.clone().next().is_some() {
            words.read::<()>("the end", |_| None)?;
        }
        Ok(Self {
            points,
            manner,
            subject,
            object,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_prompt_is_distinct_and_survives_printing() {
        let texts: BTreeSet<String> = (0..Prompt::count())
            .map(|index| {
                let prompt = Prompt::nth(index).expect("below the count");
                let text = prompt.to_string();
                assert_eq!(text.parse(), Ok(prompt), "{text}");
                text
            })
            .collect();
        assert_eq!(texts.len(), Prompt::count());
        assert_eq!(Prompt::count(), 3 * 4 * (4 * 3) * (8 * 7));
        assert_eq!(Prompt::nth(Prompt::count()), None);
    }

    #[test]
    fn errors_name_the_word_and_what_was_expected() {
        for (text, message) in [
            ("", "it ends before word 1, expected `write`"),
            (
                "write five points",
                "word 2 is `five`, expected one of one, two, three",
            ),
            (
                "write one points of care",
                "word 3 is `points`, expected `point`",
            ),
            (
                "write two points of love",
                "word 5 is `love`, expected a manner",
            ),
            (
                "write two points of care from the kind sea to the grand sea",
                "word 13 is `sea`, expected a topic that was not named before",
            ),
            (
                "write two points of care from the kind sea to the grand city now",
                "word 14 is `now`, expected the end",
            ),
        ] {
            let error = text.parse::<Prompt>().expect_err(text).to_string();
            assert_eq!(error, format!("not a prompt of the sandbox: {message}"));
        }
    }
}
