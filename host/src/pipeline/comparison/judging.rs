//! How the judge judged, out of the outcomes of all runs; of a panel, every judge beside it.

use crate::config::JudgeConfig;
use crate::error::Result;
use crate::eval::statistics::{Bootstrap, Sharing};
use crate::eval::{Agreement, JudgeRates, Outcome, SeedOutcomes, Seeded, WinRate, by_prompt};
use crate::report::{JudgeRow, Judging, MemberWinRate};

/// The outcomes of a variant under every seed, and its name.
pub(super) type Judged<'a> = (&'a str, Vec<SeedOutcomes>);

/// The rates of the judges over all variants and for each, and the agreement of a panel's.
///
/// # Errors
/// A prompt id that a seed has twice.
pub(super) fn judging(
    config: &JudgeConfig,
    variants: &[Judged<'_>],
    sharing: Sharing,
    bootstrap: &Bootstrap,
) -> Result<Judging> {
    let row = |judge: &str, variant: Option<&str>, of: &[Judged<'_>]| JudgeRow {
        judge: judge.to_owned(),
        variant: variant.map(str::to_owned),
        rates: JudgeRates::of(&by_prompt(placed(of, sharing)), bootstrap),
    };
    let mut judging = Judging::default();
    let mut add = |judge: &str, variants: &[Judged<'_>]| {
        judging.judges.push(row(judge, None, variants));
        if variants.len() > 1 {
            let each = variants
                .iter()
                .map(|one| row(judge, Some(one.0), std::slice::from_ref(one)));
            judging.of_variants.extend(each);
        }
    };
    if !config.is_panel() {
        add(&config.plugin, variants);
        return Ok(judging);
    }
    add("panel", variants);
    let members = config.members();
    for member in &members {
        let seen = seen_by(variants, member.name);
        add(member.name, &seen);
        for (variant, outcomes) in &seen {
            judging.members.push(MemberWinRate {
                judge: member.name.to_owned(),
                variant: (*variant).to_owned(),
                win_rate: WinRate::over_seeds(outcomes, sharing, bootstrap)?,
            });
        }
    }
    let names: Vec<&str> = members.iter().map(|member| member.name).collect();
    let prompts = by_prompt(placed(variants, sharing));
    judging.agreements = Agreement::of_all(&names, &prompts, bootstrap);
    judging.judged_by_some = prompts
        .iter()
        .flatten()
        .filter(|outcome| outcome.is_judged_by_some())
        .count();
    Ok(judging)
}

/// The same outcomes as one member of the panel saw them.
fn seen_by<'a>(variants: &[Judged<'a>], judge: &str) -> Vec<Judged<'a>> {
    let seeds = |seeds: &[SeedOutcomes]| {
        seeds
            .iter()
            .map(|seed| Seeded {
                seed: seed.seed,
                value: seed.value.iter().filter_map(|o| o.seen_by(judge)).collect(),
            })
            .collect()
    };
    variants
        .iter()
        .map(|(variant, outcomes)| (*variant, seeds(outcomes)))
        .collect()
}

/// Every outcome with its prompt: seeds that have prompts of their own have different ones under equal ids.
fn placed<'a>(
    variants: &'a [Judged<'_>],
    sharing: Sharing,
) -> impl Iterator<Item = ((Option<u64>, &'a str), &'a Outcome)> {
    let seeds = variants.iter().flat_map(|(_, seeds)| seeds);
    seeds.flat_map(move |seed| {
        let apart = (sharing == Sharing::PerSeed).then_some(seed.seed);
        let outcomes = seed.value.iter();
        outcomes.map(move |outcome| ((apart, outcome.id.as_str()), outcome))
    })
}
