//! The words of the language as tables. Every word belongs to exactly one class, so a word alone tells its class.

/// Topics: a name for the prompt and the nouns that are on topic. Topic `i ^ 1` is the one that demonstrations confuse
/// with topic `i`. Classes are small so that a reward model meets every word in every role within a few thousand pairs.
const TOPICS: [(&str, [&str; 4]); 8] = [
    ("sea", ["wave", "sailor", "reef", "shell"]),
    ("sky", ["cloud", "star", "comet", "kite"]),
    ("garden", ["rose", "tulip", "hedge", "bee"]),
    ("forest", ["oak", "fern", "deer", "owl"]),
    ("kitchen", ["kettle", "spoon", "cook", "plate"]),
    ("farm", ["barn", "tractor", "hen", "fence"]),
    ("city", ["tram", "bridge", "market", "tower"]),
    ("school", ["teacher", "pupil", "desk", "bell"]),
];

/// Tones: a name for the prompt and the adjectives in that tone (none starts with a vowel: they follow `a`). Tone
/// `i ^ 1` is the one that demonstrations confuse with tone `i`.
const TONES: [(&str, [&str; 4]); 4] = [
    ("kind", ["gentle", "warm", "sweet", "tender"]),
    ("playful", ["silly", "bouncy", "jolly", "wacky"]),
    ("plain", ["small", "grey", "simple", "quiet"]),
    ("grand", ["mighty", "proud", "noble", "splendid"]),
];

/// Manners: a name for the prompt and the verbs of that manner, each in the form that agrees with the singular subject
/// and in the bare form, which never does. Manner `i ^ 1` is the one that demonstrations confuse with manner `i`.
const MANNERS: [(&str, [(&str, &str); 4]); 4] = [
    (
        "care",
        [
            ("greets", "greet"),
            ("helps", "help"),
            ("guards", "guard"),
            ("feeds", "feed"),
        ],
    ),
    (
        "motion",
        [
            ("follows", "follow"),
            ("passes", "pass"),
            ("chases", "chase"),
            ("crosses", "cross"),
        ],
    ),
    (
        "craft",
        [
            ("paints", "paint"),
            ("builds", "build"),
            ("mends", "mend"),
            ("carves", "carve"),
        ],
    ),
    (
        "sight",
        [
            ("watches", "watch"),
            ("finds", "find"),
            ("spots", "spot"),
            ("studies", "study"),
        ],
    ),
];

/// Ordinals of the points.
pub(crate) const ORDINALS: [&str; 3] = ["first", "second", "third"];

/// Numbers of points, as the prompt writes them.
pub(crate) const COUNTS: [&str; 3] = ["one", "two", "three"];

/// The other words of prompts; `the` stands in responses too.
const PROMPT_WORDS: [&str; 6] = ["write", "point", "points", "of", "from", "to"];

/// The other words of responses.
const RESPONSE_WORDS: [&str; 3] = ["the", "a", "."];

/// A topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic(usize);

impl Topic {
    /// How many topics there are.
    pub const COUNT: usize = TOPICS.len();

    /// Topic number `index`, below [`Topic::COUNT`].
    pub(crate) fn nth(index: usize) -> Self {
        debug_assert!(index < Self::COUNT);
        Self(index)
    }

    /// The topic of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        TOPICS.iter().position(|topic| topic.0 == name).map(Self)
    }

    /// Its name in prompts.
    pub fn name(self) -> &'static str {
        TOPICS[self.0].0
    }

    /// The nouns that are on topic.
    pub fn nouns(self) -> &'static [&'static str] {
        &TOPICS[self.0].1
    }

    /// The topic that demonstrations confuse with this one.
    pub(crate) fn neighbour(self) -> Self {
        Self(self.0 ^ 1)
    }
}

/// A tone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tone(usize);

impl Tone {
    /// How many tones there are.
    pub const COUNT: usize = TONES.len();

    /// Tone number `index`, below [`Tone::COUNT`].
    pub(crate) fn nth(index: usize) -> Self {
        debug_assert!(index < Self::COUNT);
        Self(index)
    }

    /// The tone of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        TONES.iter().position(|tone| tone.0 == name).map(Self)
    }

    /// Its name in prompts.
    pub fn name(self) -> &'static str {
        TONES[self.0].0
    }

    /// The adjectives in this tone.
    pub fn adjectives(self) -> &'static [&'static str] {
        &TONES[self.0].1
    }

    /// The tone that demonstrations confuse with this one.
    pub(crate) fn neighbour(self) -> Self {
        Self(self.0 ^ 1)
    }
}

/// A manner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner(usize);

impl Manner {
    /// How many manners there are.
    pub const COUNT: usize = MANNERS.len();

    /// Manner number `index`, below [`Manner::COUNT`].
    pub(crate) fn nth(index: usize) -> Self {
        debug_assert!(index < Self::COUNT);
        Self(index)
    }

    /// The manner of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        MANNERS.iter().position(|manner| manner.0 == name).map(Self)
    }

    /// Its name in prompts.
    pub fn name(self) -> &'static str {
        MANNERS[self.0].0
    }

    /// The verbs of this manner, in the form that agrees with the subject.
    pub fn verbs(self) -> impl ExactSizeIterator<Item = &'static str> {
        MANNERS[self.0].1.iter().map(|forms| forms.0)
    }

    /// The manner that demonstrations confuse with this one.
    pub(crate) fn neighbour(self) -> Self {
        Self(self.0 ^ 1)
    }
}

/// What a word of a response can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The ordinal of point number `.0`, from 0.
    Ordinal(usize),
    The,
    A,
    Stop,
    Adjective(Tone),
    Noun(Topic),
    /// A verb that agrees with the subject.
    Verb(Manner),
    /// A verb that does not; `.0` is the form that does.
    BareVerb(&'static str),
    /// No word of a response.
    Other,
}

/// The class of a word.
pub(crate) fn classify(word: &str) -> Class {
    match word {
        "the" => return Class::The,
        "a" => return Class::A,
        "." => return Class::Stop,
        _ => {}
    }
    if let Some(number) = ORDINALS.iter().position(|&ordinal| ordinal == word) {
        return Class::Ordinal(number);
    }
    if let Some(number) = TONES.iter().position(|tone| tone.1.contains(&word)) {
        return Class::Adjective(Tone(number));
    }
    if let Some(number) = TOPICS.iter().position(|topic| topic.1.contains(&word)) {
        return Class::Noun(Topic(number));
    }
    for (number, manner) in MANNERS.iter().enumerate() {
        for &(verb, bare) in &manner.1 {
            if verb == word {
                return Class::Verb(Manner(number));
            }
            if bare == word {
                return Class::BareVerb(verb);
            }
        }
    }
    Class::Other
}

/// The form of a verb that does not agree with the subject.
pub(crate) fn bare_form(verb: &str) -> Option<&'static str> {
    let mut forms = MANNERS.iter().flat_map(|manner| manner.1);
    forms.find(|forms| forms.0 == verb).map(|forms| forms.1)
}

/// Every word of prompts and responses, each once, in an order that never changes (it numbers the tokens).
pub fn vocabulary() -> Vec<&'static str> {
    let mut words = Vec::new();
    words.extend(RESPONSE_WORDS);
    words.extend(PROMPT_WORDS);
    words.extend(COUNTS);
    words.extend(ORDINALS);
    words.extend(MANNERS.iter().map(|manner| manner.0));
    words.extend(TONES.iter().map(|tone| tone.0));
    words.extend(TOPICS.iter().map(|topic| topic.0));
    words.extend(TONES.iter().flat_map(|tone| tone.1));
    words.extend(TOPICS.iter().flat_map(|topic| topic.1));
    let verbs = MANNERS.iter().flat_map(|manner| manner.1);
    words.extend(verbs.flat_map(|(verb, bare)| [verb, bare]));
    words
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_word_is_in_the_vocabulary_once() {
        let words = vocabulary();
        let distinct: BTreeSet<_> = words.iter().collect();
        assert_eq!(distinct.len(), words.len());
        assert!(words.len() <= 200, "{} words", words.len());
        assert!(
            words
                .iter()
                .all(|word| word.split_whitespace().eq([*word]) && !word.is_empty())
        );
    }

    #[test]
    fn classes_are_told_from_the_word_alone() {
        assert_eq!(classify("third"), Class::Ordinal(2));
        assert_eq!(
            classify("shell"),
            Class::Noun(Topic::named("sea").expect("a topic"))
        );
        assert_eq!(
            classify("quiet"),
            Class::Adjective(Tone::named("plain").expect("a tone"))
        );
        assert_eq!(
            classify("finds"),
            Class::Verb(Manner::named("sight").expect("a manner"))
        );
        assert_eq!(classify("find"), Class::BareVerb("finds"));
        assert_eq!(classify("sea"), Class::Other);
        assert_eq!(classify(""), Class::Other);
    }

    #[test]
    fn adjectives_fit_behind_the_article() {
        for number in 0..Tone::COUNT {
            for adjective in Tone::nth(number).adjectives() {
                assert!(!adjective.starts_with(['a', 'e', 'i', 'o', 'u']));
            }
        }
    }
}
