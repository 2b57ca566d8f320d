//! The names of special tokens: where a text holds one, whether it is the token or a text that looks like it.
//!
//! A template's names are tokens; data and users write text. Both come as one text, because a Jinja template may do anything with
//! what a user says: trim it, quote it, put it between brackets. So every name in a user's text is broken beforehand, by a sign
//! that no text holds; what is still whole in the rendered text was written by the template. Then the signs are taken out.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use tokenizers::{AddedVocabulary, OffsetReferential, OffsetType};

use crate::error::{Error, Result};

/// Unicode's characters that no text holds: candidates for the sign.
const SIGNS: std::ops::RangeInclusive<char> = '\u{FDD0}'..='\u{FDEF}';

/// A text that no vocabulary has.
const UNHEARD_OF: &str = "\u{10FFFF}";

/// A part of a text.
pub(super) enum Part<'t> {
    /// Text, whatever it looks like.
    Text(Cow<'t, str>),
    /// A special token.
    Mark(u32),
}

/// The special tokens of a tokenizer.
pub(super) struct Names {
    /// Name and id of every special token.
    all: BTreeMap<String, u32>,
    /// Those that no text may become: all but the one that stands for what is not in the vocabulary.
    control: BTreeSet<u32>,
    /// Those that are looked for in the normalized text, which goes on behind them.
    normalized: BTreeSet<u32>,
    /// Finds the names as the tokenizer does, white space that belongs to them included.
    finder: AddedVocabulary,
}

impl Names {
    /// The names of a tokenizer that takes them for text; `ends` are BOS and EOS, which need not be declared special.
    pub(super) fn of(inner: &tokenizers::Tokenizer, ends: [u32; 2]) -> Self {
        let mut finder = inner.get_added_vocabulary().clone();
        finder.set_encode_special_tokens(false);
        let (mut all, mut control) = (BTreeMap::new(), BTreeSet::from(ends));
        let mut normalized = BTreeSet::new();
        for (id, token) in finder.get_added_tokens_decoder() {
            if token.special {
                all.insert(token.content.clone(), *id);
                control.insert(*id);
                if token.normalized {
                    normalized.insert(*id);
                }
            }
        }
        all.extend(
            ends.iter()
                .filter_map(|&id| Some((inner.id_to_token(id)?, id))),
        );
        // A tokenizer without a token for it refuses such a text.
        let unknown = inner.encode_fast(UNHEARD_OF, false);
        let unknown = unknown.map_or_else(|_| Vec::new(), |found| found.get_ids().to_vec());
        control.retain(|id| ends.contains(id) || !unknown.contains(id));
        Self {
            all,
            control,
            normalized,
            finder,
        }
    }

    /// Whether an id is one that no text may become.
    pub(super) fn is_control(&self, id: u32) -> bool {
        self.control.contains(&id)
    }

    /// Whether the text behind a special token is normalized together with what stands before it.
    pub(super) fn is_normalized(&self, id: u32) -> bool {
        self.normalized.contains(&id)
    }

    /// The name of the first id that no text may become.
    pub(super) fn control_in(&self, ids: &[u32]) -> Option<&str> {
        let found = ids.iter().find(|id| self.is_control(**id))?;
        let named = self.all.iter().find(|(_, id)| *id == found);
        named.map(|(name, _)| name.as_str())
    }

    /// Whether a text holds a name.
    pub(super) fn occur_in(&self, text: &str) -> bool {
        self.all.keys().any(|name| text.contains(name.as_str()))
    }

    /// A sign that none of the texts holds.
    pub(super) fn sign<'t>(texts: &(impl Iterator<Item = &'t str> + Clone)) -> Result<char> {
        let free = |sign: &char| !texts.clone().any(|text| text.contains(*sign));
        SIGNS.into_iter().find(free).ok_or_else(|| {
            Error::input("a text holds all of Unicode's characters that no text holds (U+FDD0 to U+FDEF)")
                .hint("take them out; nothing is left to tell its names of special tokens from the template's")
        })
    }

    /// The text with `sign` inside every name; and in front of it or behind it where it could be the end or the beginning of a
    /// name whose other part the template writes.
    pub(super) fn broken<'t>(&self, text: &'t str, sign: char) -> Cow<'t, str> {
        let mut at = BTreeSet::new();
        let core = text.trim();
        let start = text.len() - text.trim_start().len();
        for name in self.all.keys().filter(|name| !name.is_empty()) {
            let first = name.chars().next().map_or(0, char::len_utf8);
            at.extend(text.match_indices(name.as_str()).map(|(at, _)| at + first));
            if core.is_empty() {
                continue;
            }
            let mut cuts = name
                .char_indices()
                .skip(1)
                .map(|(cut, _)| name.split_at(cut));
            if name.contains(core) || cuts.clone().any(|(_, end)| core.starts_with(end)) {
                at.insert(start);
            }
            if cuts.any(|(beginning, _)| core.ends_with(beginning)) {
                at.insert(start + core.len());
            }
        }
        if at.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut broken = String::with_capacity(text.len() + at.len() * sign.len_utf8());
        let mut from = 0;
        for at in at {
            broken.push_str(&text[from..at]);
            broken.push(sign);
            from = at;
        }
        broken.push_str(&text[from..]);
        Cow::Owned(broken)
    }

    /// The special tokens whose names a text holds unbroken, and the text between them without the sign.
    pub(super) fn parts<'t>(
        &self,
        inner: &tokenizers::Tokenizer,
        text: &'t str,
        sign: Option<char>,
    ) -> Vec<Part<'t>> {
        let plain = |text: &'t str| match sign.filter(|sign| text.contains(*sign)) {
            Some(sign) => Cow::Owned(text.replace(sign, "")),
            None => Cow::Borrowed(text),
        };
        let row = self
            .finder
            .extract_and_normalize(inner.get_normalizer(), text);
        let mut parts = Vec::new();
        let mut from = 0;
        for (_, (start, end), tokens) in
            row.get_splits(OffsetReferential::Original, OffsetType::Byte)
        {
            let Some(token) = tokens.as_ref().and_then(|tokens| tokens.first()) else {
                continue;
            };
            // What only becomes a name when it is normalized is no name that a template wrote.
            if self.all.get(text[start..end].trim()) != Some(&token.id) {
                continue;
            }
            if from < start {
                parts.push(Part::Text(plain(&text[from..start])));
            }
            parts.push(Part::Mark(token.id));
            from = end;
        }
        if from < text.len() {
            parts.push(Part::Text(plain(&text[from..])));
        }
        parts
    }
}
