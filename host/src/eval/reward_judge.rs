//! A trained reward model as a judge, for data that no rubric or annotator judges.
//!
//! Its preference for `b` is σ(R(b) − R(a)), the Bradley–Terry probability that its loss was trained to give. It scores each
//! response alone, so it has no position bias and never flips. It is not independent of rewards that were optimised
//! against it or its like: train it on a split of its own.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use finegrain_sdk::CallContext;
use finegrain_sdk::kinds::{Comparisons, Verdict};

use super::judging::Judge;
use super::sequence_rewards::{ScoredText, SequenceReward, sequence_rewards};
use crate::data::template::PromptTemplate;
use crate::data::tokenizer::Tokenizer;
use crate::error::Result;
use crate::model::{ScoredModel, ends};

/// A reward model with its tokenizer, and the prompt template and the scheme that it was trained with.
pub struct RewardJudge<S> {
    model: ScoredModel,
    tokenizer: Tokenizer,
    template: PromptTemplate,
    scheme: S,
}

impl<S: SequenceReward> RewardJudge<S> {
    /// A judge from a trained reward model.
    pub fn new(
        model: ScoredModel,
        tokenizer: Tokenizer,
        template: PromptTemplate,
        scheme: S,
    ) -> Self {
        Self {
            model,
            tokenizer,
            template,
            scheme,
        }
    }

    /// The tokens of a prompt and a response, or why the model cannot take them.
    ///
    /// Every response gets EOS: a text does not say whether it was cut off, and both sides have to be treated alike. So both are
    /// encoded from their texts, sampled or not.
    fn encode<'a>(
        &self,
        prompt: &'a str,
        response: &'a str,
    ) -> Result<std::result::Result<ScoredText<'a>, String>> {
        for text in [prompt, response] {
            if let Some(name) = self.tokenizer.unreadable(text)? {
                return Ok(Err(format!(
                    "a text holds {name:?}, which the reward model can only read as its special token"
                )));
            }
        }
        let prompt_ids = self.template.encode(&self.tokenizer, prompt)?;
        let mut response_ids = self.tokenizer.encode_behind(&prompt_ids, response)?;
        let config = self.model.backbone.config();
        if !response_ids
            .last()
            .is_some_and(|id| ends(config, &self.tokenizer).contains(id))
        {
            response_ids.push(self.tokenizer.eos());
        }
        let mut ids = prompt_ids.iter().chain(&response_ids);
        if let Some(id) = ids.find(|id| **id as usize >= config.vocab_size) {
            let name = self.tokenizer.id_to_token(*id).unwrap_or_default();
            return Ok(Err(format!(
                "a text holds {name:?}, for which the reward model has no embedding"
            )));
        }
        let (tokens, most) = (prompt_ids.len() + response_ids.len(), config.longest_row());
        if tokens > most {
            return Ok(Err(format!(
                "prompt and response have {tokens} tokens; the reward model takes {most}"
            )));
        }
        Ok(Ok(ScoredText {
            prompt,
            response,
            prompt_ids,
            response_ids,
            ended: true,
        }))
    }
}

impl<S: SequenceReward> Judge for RewardJudge<S> {
    fn name(&self) -> String {
        format!("a reward model ({})", self.scheme.name())
    }

    fn compare(
        &self,
        comparisons: &Comparisons<'_>,
        context: &CallContext<'_>,
    ) -> Result<Vec<(Verdict, String)>> {
        // Both orders hold the same texts: each is scored once.
        let mut places = BTreeMap::new();
        let mut texts = Vec::new();
        let rows = 0..comparisons.prompts.rows();
        for row in rows.clone() {
            let prompt = comparisons.prompts.row(row);
            for response in [comparisons.a.row(row), comparisons.b.row(row)] {
                if let Entry::Vacant(place) = places.entry((prompt, response)) {
                    place.insert(self.encode(prompt, response)?.map(|text| {
                        texts.push(text);
                        texts.len() - 1
                    }));
                }
            }
        }
        // Without gradients: nothing is kept for a backward pass.
        let rewards = sequence_rewards(&self.model, &self.scheme, &texts, context)?;
        let reward = |row: usize, response| {
            let place = places[&(comparisons.prompts.row(row), response)].as_ref();
            place
                .map(|&place| f64::from(rewards[place]))
                .map_err(Clone::clone)
        };
        Ok(rows
            .map(|row| {
                match (
                    reward(row, comparisons.a.row(row)),
                    reward(row, comparisons.b.row(row)),
                ) {
                    (Ok(a), Ok(b)) => {
                        let preference = 1.0 / (1.0 + (a - b).exp());
                        (
                            Verdict::Preference(preference as f32),
                            format!("R(a) = {a:.4}, R(b) = {b:.4}"),
                        )
                    }
                    (Err(why), _) | (_, Err(why)) => (Verdict::Failed(why), String::new()),
                }
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use finegrain_sdk::kinds::Rollouts;
    use finegrain_sdk::rng::Stream;

    use super::*;
    use crate::eval::judging::{Contest, Outcome, judge_both_orders};
    use crate::model::{CausalLm, CausalLmConfig, Family, ScalarHead, Variant};
    use crate::plugins::Registry;

    /// R = the score at the last token, as the `sequence` scheme has it.
    struct Last;

    impl SequenceReward for Last {
        fn name(&self) -> String {
            "last".to_owned()
        }

        fn sequence_reward(
            &self,
            rollouts: &Rollouts<'_>,
            _: &CallContext<'_>,
        ) -> Result<Vec<f32>> {
            assert!(
                rollouts.ids.iter().all(|ids| ids.last() == Some(&1)),
                "EOS ends every response"
            );
            Ok(rollouts
                .scores
                .iter()
                .map(|row| row[row.len() - 1])
                .collect())
        }
    }

    fn judge<S: SequenceReward>(scheme: S, template: &str) -> RewardJudge<S> {
        let config = CausalLmConfig {
            family: Family::Llama,
            vocab_size: 8,
            hidden_size: 8,
            intermediate_size: 16,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            head_dim: 4,
            max_position_embeddings: 8,
            rms_norm_eps: 1e-5,
            rope_theta: 1e4,
            tie_word_embeddings: true,
            bos_token_id: Some(0),
            eos_token_id: vec![1],
            variant: Variant::default(),
        };
        let stream = Stream::new(9);
        let backbone = CausalLm::new(config, &stream.child("model")).unwrap();
        let head = ScalarHead::random(8, &stream.child("head")).unwrap();
        let file = r#"{"version": "1.0", "added_tokens": [], "normalizer": null, "post_processor": null, "decoder": null,
            "truncation": null, "padding": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
            "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab":
                {"<s>": 0, "</s>": 1, "<unk>": 2, "a": 3, "b": 4, "c": 5, "d": 6, "e": 7}}}"#;
        let tokenizer = Tokenizer::new(file.parse().unwrap(), "<s>", "</s>").unwrap();
        let template = PromptTemplate::new(template).unwrap();
        RewardJudge::new(
            ScoredModel::new(backbone, head).unwrap(),
            tokenizer,
            template,
            scheme,
        )
    }

    fn outcomes_of(
        judge: &RewardJudge<impl SequenceReward>,
        prompt: &str,
        contests: &[(&str, &str)],
    ) -> Vec<Outcome> {
        let contests: Vec<Contest<'_>> = contests
            .iter()
            .map(|&(model, reference)| Contest {
                id: model,
                prompt,
                model,
                reference,
            })
            .collect();
        let context = CallContext {
            seed: 0,
            step: 0,
            threads: 1,
            cancel: &AtomicBool::new(false),
            log: &|_, _| {},
            progress: &|_, _| {},
            answers: None,
        };
        judge_both_orders(judge, &contests, &context).unwrap()
    }

    fn outcomes_with(scheme: impl SequenceReward, contests: &[(&str, &str)]) -> Vec<Outcome> {
        outcomes_of(&judge(scheme, "{prompt}"), "a b", contests)
    }

    fn outcomes(contests: &[(&str, &str)]) -> Vec<Outcome> {
        outcomes_with(Last, contests)
    }

    #[test]
    fn a_plugin_gives_the_same_as_its_rule() {
        let registry = Registry::built_in().unwrap();
        let scheme = registry.reward("sequence", &serde_json::json!({})).unwrap();
        assert_eq!(SequenceReward::name(&scheme), "sequence");
        let contests = [("c", "d e"), ("a b", "e")];
        assert_eq!(outcomes_with(scheme, &contests), outcomes(&contests));
    }

    #[test]
    fn the_model_sees_prompts_in_its_template() {
        let contests = [("c", "d e"), ("a", "e")];
        let templated = outcomes_of(&judge(Last, "e {prompt} d"), "b", &contests);
        let written_out = outcomes_of(&judge(Last, "{prompt}"), "e b d", &contests);
        assert_eq!(templated, written_out);
        assert_ne!(
            templated,
            outcomes_of(&judge(Last, "{prompt}"), "b", &contests)
        );
    }

    #[test]
    fn prefers_by_the_difference_of_rewards_without_position_bias() {
        let found = outcomes(&[("c", "d e"), ("d e", "c"), ("", "c")]);
        let rewards = |reason: &str| -> Vec<f64> {
            reason
                .split(", ")
                .map(|part| part[7..].parse().unwrap())
                .collect()
        };
        let [r_reference, r_model] = rewards(&found[0].reasons[0])[..] else {
            panic!("two rewards")
        };
        assert_eq!(rewards(&found[0].reasons[1]), [r_model, r_reference]);
        let expected = 1.0 / (1.0 + (r_reference - r_model).exp());
        assert!((found[0].preference.unwrap() - expected).abs() < 1e-4);
        assert!(r_model != r_reference && found.iter().all(|o| !o.flip));
        let sum = found[0].preference.unwrap() + found[1].preference.unwrap();
        assert!((sum - 1.0).abs() < 1e-6);
    }

    #[test]
    fn texts_that_are_too_long_fail_alone() {
        let found = outcomes(&[("c c c c c c", "d"), ("c", "d")]);
        let failure = found[0].failure.as_deref().unwrap();
        assert!(
            failure.contains("prompt and response have 9 tokens; the reward model takes 8"),
            "{failure}"
        );
        assert_eq!(found[1], outcomes(&[("c", "d")])[0]);
    }
}
