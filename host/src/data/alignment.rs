//! Which tokens an edit touched: U₁ of the paper, from a diff of the two id sequences.
//!
//! Tokens are aligned, not compared index by index: after the first insertion every index would differ. The diff is a
//! shortest edit script (Myers, 1986), so that as few tokens as possible count as changed.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use similar::{Algorithm, DiffOp, capture_diff_slices};

use crate::data::records::SetAsideReason;

/// How edits are aligned with what they edited, and which count as edits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlignmentConfig {
    /// Whether the end-of-sequence token takes part; without it, it is never changed and not counted.
    pub count_eos: bool,
    /// Whether the token before which the other side has more tokens counts as changed too: the original's token that
    /// came too early, for instance its end of sequence where the edit goes on. Without it, a pure insertion leaves the
    /// original without a changed token.
    pub mark_gaps: bool,
    /// The largest share of tokens that an edit may change, over both sides; what changes more is set aside as
    /// rewritten.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_changed: f64,
}

impl Default for AlignmentConfig {
    fn default() -> Self {
        Self {
            count_eos: true,
            mark_gaps: false,
            max_changed: 0.5,
        }
    }
}

/// An aligned pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alignment {
    /// 1 where the token of the original was changed, else 0; as long as the original.
    pub original: Vec<u8>,
    /// 1 where the token of the edit was changed, else 0; as long as the edit.
    pub edited: Vec<u8>,
    /// Tokens of the original that stand against a token of the edit.
    pub substitutions: usize,
    /// Tokens of the edit that stand against none of the original.
    pub insertions: usize,
    /// Tokens of the original that stand against none of the edit.
    pub deletions: usize,
    /// Tokens of both sides that took part.
    pub tokens: usize,
    /// Tokens of the original and of the edit that took part.
    pub counted: [usize; 2],
    /// The stretches that were changed, in order; between two of them lies a token that stayed.
    pub stretches: Vec<Stretch>,
}

/// A stretch of tokens that was changed; one of the sides may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Tokens of the original.
    pub old: Range<usize>,
    /// Tokens of the edit.
    pub new: Range<usize>,
}

impl Alignment {
    /// Whether both sides are the same sequence.
    pub fn identical(&self) -> bool {
        self.changed() == 0
    }

    /// Tokens of both sides that differ (gap marks do not count).
    pub fn changed(&self) -> usize {
        2 * self.substitutions + self.insertions + self.deletions
    }

    /// The share of tokens of both sides that differ, in [0, 1]; 0 where both are empty.
    pub fn changed_fraction(&self) -> f64 {
        match self.tokens {
            0 => 0.0,
            tokens => self.changed() as f64 / tokens as f64,
        }
    }

    /// Why this pair is not used as an edit, or `None` where it is.
    pub fn set_aside(&self, max_changed: f64) -> Option<SetAsideReason> {
        if self.identical() {
            Some(SetAsideReason::Identical)
        } else if self.changed_fraction() > max_changed {
            Some(SetAsideReason::Rewritten)
        } else {
            None
        }
    }
}

/// Aligns the response ids of an original and its edit; `eos` are the tokens that end a response, one of which either may end with.
pub fn align(original: &[u32], edited: &[u32], eos: &[u32], config: &AlignmentConfig) -> Alignment {
    let counted = |ids: &[u32]| {
        if config.count_eos || !ids.last().is_some_and(|id| eos.contains(id)) {
            ids.len()
        } else {
            ids.len() - 1
        }
    };
    let (old, new) = (&original[..counted(original)], &edited[..counted(edited)]);
    let mut alignment = Alignment {
        original: vec![0; original.len()],
        edited: vec![0; edited.len()],
        substitutions: 0,
        insertions: 0,
        deletions: 0,
        tokens: old.len() + new.len(),
        counted: [old.len(), new.len()],
        stretches: Vec::new(),
    };
    for op in capture_diff_slices(Algorithm::RawMyers, old, new) {
        if let DiffOp::Equal { .. } = op {
            continue;
        }
        let (old_range, new_range) = (op.old_range(), op.new_range());
        let substituted = old_range.len().min(new_range.len());
        alignment.substitutions += substituted;
        alignment.deletions += old_range.len() - substituted;
        alignment.insertions += new_range.len() - substituted;
        alignment.stretches.push(Stretch {
            old: old_range.clone(),
            new: new_range.clone(),
        });
        alignment.original[old_range.clone()].fill(1);
        alignment.edited[new_range.clone()].fill(1);
        if config.mark_gaps {
            let (side, gap) = if old_range.len() < new_range.len() {
                (&mut alignment.original[..old.len()], old_range.end)
            } else {
                (&mut alignment.edited[..new.len()], new_range.end)
            };
            // Where the shorter side has no token behind the gap, the last one stands for its end.
            let last = side.len().checked_sub(1);
            if let Some(last) = last
                && old_range.len() != new_range.len()
            {
                side[gap.min(last)] = 1;
            }
        }
    }
    alignment
}

/// Points of a distribution, linear between order statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// The smallest value.
    pub min: f64,
    /// A tenth lies below.
    pub p10: f64,
    /// A quarter lies below.
    pub p25: f64,
    /// Half lies below.
    pub p50: f64,
    /// Three quarters lie below.
    pub p75: f64,
    /// Nine tenths lie below.
    pub p90: f64,
    /// The largest value.
    pub max: f64,
}

impl Quantiles {
    /// The quantiles of some values, all of them finite; `None` where there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let top = sorted.len().checked_sub(1)?;
        let at = |share: f64| {
            let place = share * top as f64;
            let below = place.floor() as usize;
            let above = (below + 1).min(top);
            sorted[below] + (place - below as f64) * (sorted[above] - sorted[below])
        };
        Some(Self {
            min: sorted[0],
            p10: at(0.1),
            p25: at(0.25),
            p50: at(0.5),
            p75: at(0.75),
            p90: at(0.9),
            max: sorted[top],
        })
    }
}

/// What a set of edits looks like, over all of its pairs, those set aside included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EditStatistics {
    /// Pairs in all.
    pub pairs: usize,
    /// Pairs whose sides are the same.
    pub identical: usize,
    /// Pairs that change more than the limit.
    pub rewritten: usize,
    /// Pairs that are neither.
    pub kept: usize,
    /// Mean share of the original's tokens that are changed (marked gaps included).
    pub original_changed: f64,
    /// Mean share of the edit's tokens that are changed (marked gaps included).
    pub edited_changed: f64,
    /// Pairs in which the original has no changed token though the edit differs.
    pub only_inserted: usize,
    /// Tokens replaced, over all pairs.
    pub substitutions: usize,
    /// Tokens inserted, over all pairs.
    pub insertions: usize,
    /// Tokens deleted, over all pairs.
    pub deletions: usize,
    /// Quantiles over pairs of the share of tokens of both sides that differ; `None` where there are no pairs.
    pub changed_fraction: Option<Quantiles>,
}

impl EditStatistics {
    /// The statistics of some alignments under a limit.
    pub fn of(alignments: &[Alignment], max_changed: f64) -> Self {
        let count = |wanted: Option<SetAsideReason>| {
            let reasons = alignments.iter().map(|pair| pair.set_aside(max_changed));
            reasons.filter(|reason| *reason == wanted).count()
        };
        let mean_marked = |side: fn(&Alignment) -> &[u8]| {
            let shares = alignments.iter().map(|pair| {
                let marks = side(pair);
                let marked: usize = marks.iter().map(|&mark| usize::from(mark)).sum();
                marked as f64 / marks.len().max(1) as f64
            });
            shares.sum::<f64>() / alignments.len().max(1) as f64
        };
        let sum = |part: fn(&Alignment) -> usize| alignments.iter().map(part).sum();
        let unmarked = |pair: &&Alignment| !pair.identical() && !pair.original.contains(&1);
        Self {
            pairs: alignments.len(),
            identical: count(Some(SetAsideReason::Identical)),
            rewritten: count(Some(SetAsideReason::Rewritten)),
            kept: count(None),
            original_changed: mean_marked(|pair| &pair.original),
            edited_changed: mean_marked(|pair| &pair.edited),
            only_inserted: alignments.iter().filter(unmarked).count(),
            substitutions: sum(|pair| pair.substitutions),
            insertions: sum(|pair| pair.insertions),
            deletions: sum(|pair| pair.deletions),
            changed_fraction: Quantiles::of(alignments.iter().map(Alignment::changed_fraction)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EOS: u32 = 99;

    fn aligned(original: &[u32], edited: &[u32]) -> Alignment {
        align(original, edited, &[EOS], &AlignmentConfig::default())
    }

    #[test]
    fn an_insertion_changes_what_was_inserted_and_nothing_behind_it() {
        let alignment = aligned(&[1, 2, 3, 4, EOS], &[1, 9, 2, 3, 4, EOS]);
        assert_eq!(alignment.original, [0, 0, 0, 0, 0]);
        assert_eq!(alignment.edited, [0, 1, 0, 0, 0, 0]);
        assert_eq!(
            (
                alignment.substitutions,
                alignment.insertions,
                alignment.deletions
            ),
            (0, 1, 0)
        );
        assert_eq!(alignment.changed_fraction(), 1.0 / 11.0);
    }

    #[test]
    fn substitutions_and_deletions_are_told_apart() {
        let alignment = aligned(&[1, 2, 3, 4, 5], &[1, 8, 3, 5]);
        assert_eq!(alignment.original, [0, 1, 0, 1, 0]);
        assert_eq!(alignment.edited, [0, 1, 0, 0]);
        assert_eq!(
            (
                alignment.substitutions,
                alignment.insertions,
                alignment.deletions
            ),
            (1, 0, 1)
        );
    }

    #[test]
    fn the_end_of_sequence_counts_only_where_asked() {
        let (cut, ended) = ([1, 2], [1, 2, EOS]);
        assert_eq!(aligned(&cut, &ended).edited, [0, 0, 1]);
        let config = AlignmentConfig {
            count_eos: false,
            ..AlignmentConfig::default()
        };
        let alignment = align(&cut, &ended, &[EOS], &config);
        assert_eq!(alignment.edited, [0, 0, 0]);
        assert!(alignment.identical());
        assert_eq!(alignment.tokens, 4);
    }

    #[test]
    fn a_marked_gap_is_the_token_that_came_too_early() {
        let config = AlignmentConfig {
            mark_gaps: true,
            ..AlignmentConfig::default()
        };
        // The edit goes on where the original ended.
        let alignment = align(&[1, 2, EOS], &[1, 2, 3, 4, EOS], &[EOS], &config);
        assert_eq!(alignment.original, [0, 0, 1]);
        assert_eq!(alignment.edited, [0, 0, 1, 1, 0]);
        assert_eq!(alignment.changed(), 2);
        // A deletion marks the edit's token behind it; a substitution leaves no gap.
        assert_eq!(align(&[1, 2, 3], &[1, 3], &[EOS], &config).edited, [0, 1]);
        assert_eq!(
            align(&[1, 2, 3], &[1, 4, 3], &[EOS], &config).edited,
            [0, 1, 0]
        );
        // Behind the last token there is only the last token.
        assert_eq!(align(&[1], &[1, 2], &[EOS], &config).original, [1]);
        assert_eq!(align(&[], &[2], &[EOS], &config).original, [0; 0]);
    }

    #[test]
    fn identical_and_rewritten_pairs_are_set_aside() {
        let limit = 0.5;
        assert_eq!(
            aligned(&[1, 2], &[1, 2]).set_aside(limit),
            Some(SetAsideReason::Identical)
        );
        assert_eq!(
            aligned(&[], &[]).set_aside(limit),
            Some(SetAsideReason::Identical)
        );
        assert_eq!(
            aligned(&[1, 2, 3], &[4, 5, 3]).set_aside(limit),
            Some(SetAsideReason::Rewritten)
        );
        assert_eq!(aligned(&[1, 2], &[1, 3]).set_aside(limit), None);
    }

    #[test]
    fn statistics_count_over_pairs() {
        let alignments = [
            aligned(&[1, 2, 3, 4], &[1, 2, 3, 4]),
            aligned(&[1, 2, 3, 4], &[1, 9, 3, 4]),
            aligned(&[1, 2, 3, 4], &[1, 2, 3, 4, 5]),
            aligned(&[1, 2], &[8, 9]),
        ];
        let statistics = EditStatistics::of(&alignments, 0.5);
        assert_eq!(
            (
                statistics.pairs,
                statistics.identical,
                statistics.rewritten,
                statistics.kept
            ),
            (4, 1, 1, 2)
        );
        assert_eq!(
            (
                statistics.substitutions,
                statistics.insertions,
                statistics.deletions,
                statistics.only_inserted
            ),
            (3, 1, 0, 1)
        );
        assert_eq!(statistics.original_changed, (0.25 + 1.0) / 4.0);
        assert_eq!(statistics.edited_changed, (0.25 + 0.2 + 1.0) / 4.0);
        let quantiles = statistics.changed_fraction.unwrap();
        assert_eq!((quantiles.min, quantiles.max), (0.0, 1.0));
        // Between 1/9 and 1/4, the second and the third of four.
        assert_eq!(quantiles.p50, f64::midpoint(1.0 / 9.0, 0.25));
        assert_eq!(EditStatistics::of(&[], 0.5).changed_fraction, None);
    }

    /// Length of the longest common subsequence, by the textbook's table.
    fn longest_common(a: &[u32], b: &[u32]) -> usize {
        let mut row = vec![0; b.len() + 1];
        for x in a {
            let mut diagonal = 0;
            for (j, y) in b.iter().enumerate() {
                let above = row[j + 1];
                row[j + 1] = if x == y {
                    diagonal + 1
                } else {
                    above.max(row[j])
                };
                diagonal = above;
            }
        }
        row[b.len()]
    }

    proptest! {
        #[test]
        fn unchanged_tokens_of_both_sides_are_the_same_longest_sequence(
            original in proptest::collection::vec(0_u32..5, 0..30),
            edited in proptest::collection::vec(0_u32..5, 0..30),
        ) {
            let alignment = aligned(&original, &edited);
            let kept = |ids: &[u32], marks: &[u8]| -> Vec<u32> {
                ids.iter().zip(marks).filter(|(_, mark)| **mark == 0).map(|(id, _)| *id).collect()
            };
            let unchanged = kept(&original, &alignment.original);
            prop_assert_eq!(&unchanged, &kept(&edited, &alignment.edited));
            prop_assert_eq!(unchanged.len(), longest_common(&original, &edited));
            prop_assert_eq!(alignment.changed() + 2 * unchanged.len(), original.len() + edited.len());
        }
    }
}
