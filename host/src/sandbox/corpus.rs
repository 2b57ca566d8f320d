//! The sandbox's prompts and demonstrations, drawn from the prompts of the language without repetition.

use finegrain_rubric::{Prompt, demonstrate};
use finegrain_sdk::rng::Stream;
use rand::Rng as _;
use rand::seq::SliceRandom as _;

use super::SandboxConfig;
use crate::data::records::{Demonstration, PromptRecord};
use crate::error::Result;

/// The data of a sandbox run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corpus {
    /// For SFT.
    pub demonstrations: Vec<Demonstration>,
    /// For the reward model.
    pub reward_prompts: Vec<PromptRecord>,
    /// For PPO's rollouts.
    pub ppo_prompts: Vec<PromptRecord>,
    /// For the evaluation.
    pub eval_prompts: Vec<PromptRecord>,
}

/// The corpus of a configuration: a function of it and the stream.
///
/// No prompt occurs twice, in one split or in two. Prompts are dealt to the evaluation first and to SFT last, so that the
/// evaluation's stay the same whatever the other counts are.
///
/// # Errors
/// A configuration that [`SandboxConfig::validate`] refuses.
pub fn generate(config: &SandboxConfig, stream: &Stream) -> Result<Corpus> {
    config.validate()?;
    let mut numbers: Vec<usize> = (0..Prompt::count()).collect();
    numbers.shuffle(&mut stream.child("prompts").rng());
    let mut numbers = numbers.into_iter();
    let mut deal = |count: usize| -> Vec<(usize, Prompt)> {
        let dealt = numbers.by_ref().take(count);
        dealt
            .map(|number| {
                let prompt = Prompt::nth(number).expect("invariant: numbers are below the count");
                (number, prompt)
            })
            .collect()
    };
    let records = |split: &str, prompts: Vec<(usize, Prompt)>| -> Vec<PromptRecord> {
        let rows = prompts.into_iter().enumerate();
        rows.map(|(row, (_, prompt))| PromptRecord {
            id: format!("{split}-{row}"),
            prompt: prompt.to_string(),
        })
        .collect()
    };
    let eval_prompts = records("eval", deal(config.n_eval_prompts));
    let ppo_prompts = records("ppo", deal(config.n_ppo_prompts));
    let reward_prompts = records("reward", deal(config.n_reward_prompts));
    let demonstrations = deal(config.n_demonstrations)
        .into_iter()
        .enumerate()
        .map(|(row, (number, prompt))| {
            let mut rng = stream.child("demonstration").index(number as u64).rng();
            Demonstration {
                id: format!("sft-{row}"),
                prompt: prompt.to_string(),
                response: demonstrate(&prompt, config.defect_rate, &mut || rng.next_u64()),
            }
        })
        .collect();
    Ok(Corpus {
        demonstrations,
        reward_prompts,
        ppo_prompts,
        eval_prompts,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sandbox::score;

    #[test]
    fn no_prompt_occurs_twice_and_counts_are_kept() {
        let config = SandboxConfig::default();
        let corpus = generate(&config, &Stream::new(1)).unwrap();
        assert_eq!(corpus.demonstrations.len(), config.n_demonstrations);
        assert_eq!(corpus.reward_prompts.len(), config.n_reward_prompts);
        assert_eq!(corpus.ppo_prompts.len(), config.n_ppo_prompts);
        assert_eq!(corpus.eval_prompts.len(), config.n_eval_prompts);
        let prompts = [
            corpus.reward_prompts,
            corpus.ppo_prompts,
            corpus.eval_prompts,
        ];
        let distinct: BTreeSet<String> = prompts
            .into_iter()
            .flatten()
            .map(|record| record.prompt)
            .chain(corpus.demonstrations.into_iter().map(|row| row.prompt))
            .collect();
        assert_eq!(distinct.len(), config.n_prompts());
    }

    #[test]
    fn the_corpus_is_a_function_of_the_stream_and_the_evaluation_of_no_other_count() {
        let small = SandboxConfig {
            n_demonstrations: 50,
            n_reward_prompts: 20,
            ..SandboxConfig::default()
        };
        let corpus = generate(&small, &Stream::new(1)).unwrap();
        assert_eq!(generate(&small, &Stream::new(1)).unwrap(), corpus);
        let other = generate(&small, &Stream::new(2)).unwrap();
        assert_ne!(other.eval_prompts, corpus.eval_prompts);
        let large = generate(&SandboxConfig::default(), &Stream::new(1)).unwrap();
        assert_eq!(large.eval_prompts, corpus.eval_prompts);
    }

    #[test]
    fn the_rate_of_defects_decides_the_scores() {
        let mean = |defect_rate| {
            let config = SandboxConfig {
                defect_rate,
                n_demonstrations: 400,
                ..SandboxConfig::default()
            };
            let corpus = generate(&config, &Stream::new(1)).unwrap();
            let rows = corpus.demonstrations.iter();
            let scores = rows.map(|row| score(&row.prompt, &row.response).unwrap());
            scores.sum::<f64>() / 400.0
        };
        assert_eq!(mean(0.0), 1.0);
        let (few, many) = (mean(0.1), mean(0.5));
        assert!(few > 0.7 && few < 0.9, "{few}");
        assert!(many < 0.3, "{many}");
    }
}
