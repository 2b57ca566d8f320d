//! Figures of one edit: how much it changed, and where.

use std::collections::HashMap;

use finegrain_dialogue::minimality::difference::words;
use serde::Serialize;

use super::source::{EditSet, RunOfEdits};
use crate::data::alignment::{Alignment, AlignmentConfig, align};
use crate::data::records::{EditRecord, Outcome};
use crate::data::tokenizer::Tokenizer;
use crate::error::Result;
use crate::model::{checkpoint, ends};
use crate::pipeline::encoding::Encoder;

/// Parts of a response in which changes are counted.
pub const PARTS: usize = 10;

/// What edits are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Tokens of the run's own tokenizer, behind the prompt, EOS included: what the pipeline counts.
    Tokens,
    /// Words and punctuation marks of Unicode (UAX #29).
    Words,
}

impl Unit {
    /// Its name, in the plural.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Words => "words",
        }
    }
}

/// Figures of one edit, counted in [`Unit`]s.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// The edit's id.
    pub id: String,
    /// Units of the response and of the edit.
    pub units: [usize; 2],
    /// Units of both sides that differ: 2 · substitutions + insertions + deletions.
    pub changed: usize,
    /// The share of units of both sides that differ, in [0, 1].
    pub share: f64,
    /// Characters of the edit per character of the response; `None` where the response is empty.
    pub length_ratio: Option<f64>,
    /// Separate changes: stretches with unchanged units between them.
    pub changes: usize,
    /// Units that changed (of each stretch those of the longer side) in each tenth of the response; what was put in stands where
    /// the unit behind it does.
    pub tenths: [usize; PARTS],
}

/// Measures edits.
pub struct Measure<'a> {
    run: Option<(Encoder<'a>, Vec<u32>, &'a AlignmentConfig)>,
}

/// What a [`Measure`] needs of a run, read once.
pub struct Opened {
    tokenizer: Tokenizer,
    sizes: crate::model::CausalLmConfig,
}

impl Opened {
    /// The tokenizer of a run, where there is a run and its model is still there.
    ///
    /// # Errors
    /// A model that cannot be read.
    pub fn of(set: &EditSet) -> Result<Option<Self>> {
        let model = set.run.as_ref().and_then(|run| run.model.as_ref());
        let Some(model) = model.filter(|model| model.is_dir()) else {
            return Ok(None);
        };
        Ok(Some(Self {
            tokenizer: Tokenizer::load(model)?,
            sizes: checkpoint::sizes(model)?,
        }))
    }
}

impl<'a> Measure<'a> {
    /// By the run's tokenizer and alignment where both are there, else by words.
    pub fn new(run: Option<&'a RunOfEdits>, opened: Option<&'a Opened>) -> Self {
        let run = run.zip(opened).map(|(run, opened)| {
            let encoder = Encoder::new(
                &opened.tokenizer,
                &run.config.prompt_template,
                &opened.sizes,
            );
            let ends = ends(&opened.sizes, &opened.tokenizer);
            (encoder, ends, &run.config.alignment)
        });
        Self { run }
    }

    /// What it counts in.
    pub fn unit(&self) -> Unit {
        match self.run {
            Some(_) => Unit::Tokens,
            None => Unit::Words,
        }
    }

    /// The figures of an edit; `None` of a row without one, or with one that does not fit the run's model.
    ///
    /// # Errors
    /// A prompt that the run's template refuses.
    pub fn of(&self, row: &EditRecord) -> Result<Option<Figures>> {
        let Outcome::Edited { response } = &row.outcome else {
            return Ok(None);
        };
        let alignment = match &self.run {
            Some((encoder, ends, config)) => {
                let responses = [(&*row.original, true), (&**response, true)];
                if encoder
                    .refuses(&row.id, &row.prompt, &responses, None)?
                    .is_some()
                {
                    return Ok(None);
                }
                let Some(pair) = row.pair() else {
                    return Ok(None);
                };
                let ids = encoder.pair(&pair)?;
                align(&ids.rejected, &ids.chosen, ends, config)
            }
            None => of_words(&row.original, response),
        };
        let length = |text: &str| text.chars().count();
        let original = length(&row.original);
        Ok(Some(Figures {
            id: row.id.clone(),
            units: alignment.counted,
            changed: alignment.changed(),
            share: alignment.changed_fraction(),
            length_ratio: (original > 0).then(|| length(response) as f64 / original as f64),
            changes: alignment.stretches.len(),
            tenths: tenths(&alignment),
        }))
    }
}

/// Two texts aligned by their words.
fn of_words(original: &str, edited: &str) -> Alignment {
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let mut ids = |text| -> Vec<u32> {
        words(text)
            .into_iter()
            .map(|word| {
                let next = numbers.len() as u32;
                *numbers.entry(word.text).or_insert(next)
            })
            .collect()
    };
    let (old, new) = (ids(original), ids(edited));
    // No word is taken for the end of the sequence.
    align(&old, &new, &[], &AlignmentConfig::default())
}

/// Where in the response the changes lie.
fn tenths(alignment: &Alignment) -> [usize; PARTS] {
    let mut parts = [0; PARTS];
    let units = alignment.counted[0];
    let part = |unit: usize| match units {
        0 => 0,
        units => (unit * PARTS / units).min(PARTS - 1),
    };
    for stretch in &alignment.stretches {
        for unit in stretch.old.clone() {
            parts[part(unit)] += 1;
        }
        let surplus = stretch.new.len().saturating_sub(stretch.old.len());
        parts[part(stretch.old.end)] += surplus;
    }
    parts
}
