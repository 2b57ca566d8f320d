//! Prompts: `write <count> <tone> point(s) about the <topic> [from <noun>] [to <noun>]`.

use std::fmt;
use std::str::FromStr;

use crate::vocabulary::{COUNTS, Tone, Topic};

/// The largest number of points that a prompt asks for.
pub const MAX_POINTS: usize = COUNTS.len();

/// A prompt: how many points, in which tone, on which topic, and which nouns come first and last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prompt {
    points: usize,
    tone: Tone,
    topic: Topic,
    first: Option<&'static str>,
    last: Option<&'static str>,
}

impl Prompt {
    /// How many different prompts there are.
    pub fn count() -> usize {
        MAX_POINTS * Tone::COUNT * Topic::COUNT * noun_choices(Topic::nth(0)).count()
    }

    /// Prompt number `index` of all prompts, each exactly once.
    ///
    /// `None` where `index` is not below [`Prompt::count`].
    pub fn nth(index: usize) -> Option<Self> {
        let (index, points) = (index / MAX_POINTS, index % MAX_POINTS + 1);
        let (index, tone) = (index / Tone::COUNT, Tone::nth(index % Tone::COUNT));
        let (index, topic) = (index / Topic::COUNT, Topic::nth(index % Topic::COUNT));
        let (first, last) = noun_choices(topic).nth(index)?;
        Some(Self {
            points,
            tone,
            topic,
            first,
            last,
        })
    }

    /// How many points are asked for: 1 to [`MAX_POINTS`].
    pub fn points(&self) -> usize {
        self.points
    }

    /// The tone that adjectives must have.
    pub fn tone(&self) -> Tone {
        self.tone
    }

    /// The topic that nouns must be from.
    pub fn topic(&self) -> Topic {
        self.topic
    }

    /// The noun that must come first in the response, where one is asked for.
    pub fn first(&self) -> Option<&'static str> {
        self.first
    }

    /// The noun that must come last in the response, where one is asked for; never the same as [`Prompt::first`].
    pub fn last(&self) -> Option<&'static str> {
        self.last
    }
}

/// All pairs of (first, last) nouns, either of them absent, never twice the same noun.
fn noun_choices(
    topic: Topic,
) -> impl Iterator<Item = (Option<&'static str>, Option<&'static str>)> {
    let choices = move || std::iter::once(None).chain(topic.nouns().iter().copied().map(Some));
    choices()
        .flat_map(move |first| choices().map(move |last| (first, last)))
        .filter(|(first, last)| first.is_none() || first != last)
}

impl fmt::Display for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "write {} {} {} about the {}",
            COUNTS[self.points - 1],
            self.tone.name(),
            if self.points == 1 { "point" } else { "points" },
            self.topic.name()
        )?;
        if let Some(first) = self.first {
            write!(f, " from {first}")?;
        }
        if let Some(last) = self.last {
            write!(f, " to {last}")?;
        }
        Ok(())
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
            None => write!(f, "it ends after {} words", self.position - 1)?,
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

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        self.read += 1;
        self.words.next()
    }

    /// The next word as `parse` reads it, or an error that says what was `expected`.
    fn expect<T>(
        &mut self,
        expected: impl fmt::Display,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, PromptError> {
        let word = self.next();
        word.and_then(parse)
            .ok_or_else(|| self.error(word, expected))
    }

    /// The error that the word just read is not what was `expected`.
    fn error(&self, found: Option<&str>, expected: impl fmt::Display) -> PromptError {
        PromptError {
            found: found.map(str::to_owned),
            position: self.read,
            expected: expected.to_string(),
        }
    }
}

impl FromStr for Prompt {
    type Err = PromptError;

    fn from_str(text: &str) -> Result<Self, PromptError> {
        let word = |wanted: &'static str| move |word: &str| (word == wanted).then_some(());
        let mut words = Words {
            words: text.split_whitespace(),
            read: 0,
        };
        words.expect("`write`", word("write"))?;
        let points = words.expect(format_args!("one of {}", COUNTS.join(", ")), |word| {
            COUNTS.iter().position(|&count| count == word)
        })? + 1;
        let tone = words.expect("a tone", Tone::named)?;
        match points {
            1 => words.expect("`point`", word("point"))?,
            _ => words.expect("`points`", word("points"))?,
        }
        words.expect("`about`", word("about"))?;
        words.expect("`the`", word("the"))?;
        let topic = words.expect("a topic", Topic::named)?;
        let mut prompt = Self {
            points,
            tone,
            topic,
            first: None,
            last: None,
        };
        let noun_expected = format!("a noun of the {} that was not named before", topic.name());
        loop {
            let preposition = words.next();
            let place = match preposition {
                None => return Ok(prompt),
                Some("from") if prompt.first.is_none() && prompt.last.is_none() => {
                    &mut prompt.first
                }
                Some("to") if prompt.last.is_none() => &mut prompt.last,
                _ => return Err(words.error(preposition, "the end, `from` or `to`, each once")),
            };
            *place = Some(words.expect(&noun_expected, |word| {
                topic.nouns().iter().copied().find(|&noun| noun == word)
            })?);
            if prompt.first.is_some() && prompt.first == prompt.last {
                return Err(words.error(prompt.last, &noun_expected));
            }
        }
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
        assert_eq!(Prompt::count(), 4 * 4 * 6 * (1 + 14 + 14 + 14 * 13));
        assert_eq!(Prompt::nth(Prompt::count()), None);
    }

    #[test]
    fn errors_name_the_word_and_what_was_expected() {
        for (text, message) in [
            ("", "it ends after 0 words, expected `write`"),
            (
                "write five kind points",
                "word 2 is `five`, expected one of one, two, three, four",
            ),
            (
                "write one kind points about the sea",
                "word 4 is `points`, expected `point`",
            ),
            (
                "write two kind points about the sea from oak",
                "word 9 is `oak`, expected a noun of the sea that was not named before",
            ),
            (
                "write two kind points about the sea from shell to shell",
                "word 11 is `shell`, expected a noun of the sea that was not named before",
            ),
            (
                "write two kind points about the sea to shell from reef",
                "word 10 is `from`, expected the end, `from` or `to`, each once",
            ),
        ] {
            let error = text.parse::<Prompt>().expect_err(text).to_string();
            assert_eq!(error, format!("not a prompt of the sandbox: {message}"));
        }
    }
}
