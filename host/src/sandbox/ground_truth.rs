//! What the rubric says about texts and tokens of the sandbox.

use finegrain_rubric::{Prompt, assess, defect_mask};

use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};

fn parse(prompt: &str) -> Result<Prompt> {
    prompt
        .parse()
        .map_err(|error| Error::input(format!("prompt {prompt:?}: {error}")))
}

/// The rubric's score of a response, at most 1.
///
/// # Errors
/// A prompt that is none of the sandbox's.
pub fn score(prompt: &str, response: &str) -> Result<f64> {
    Ok(assess(&parse(prompt)?, response).score)
}

/// Which tokens of a response are defective: 1 or 0 for each of `ids`, which are the response's as they were sampled,
/// EOS included where the policy ended it.
///
/// Every id is a word, special tokens too. What is missing at the end belongs to EOS, or to the last token where the
/// response did not end.
///
/// # Errors
/// A prompt that is none of the sandbox's, an id that is not in the vocabulary.
pub fn defect_marks(tokenizer: &Tokenizer, prompt: &str, ids: &[u32]) -> Result<Vec<u8>> {
    let prompt = parse(prompt)?;
    let ended = ids.last() == Some(&tokenizer.eos());
    let words = ids[..ids.len() - usize::from(ended)]
        .iter()
        .map(|&id| {
            tokenizer
                .id_to_token(id)
                .ok_or_else(|| Error::input(format!("id {id} is not in the sandbox's vocabulary")))
        })
        .collect::<Result<Vec<String>>>()?;
    let mask = defect_mask(&prompt, &words.join(" "), ended);
    if mask.len() != ids.len() {
        return Err(Error::input(format!(
            "{} tokens are {} words; accepted: the sandbox's tokenizer, where every token is a word",
            ids.len(),
            mask.len()
        )));
    }
    Ok(mask.into_iter().map(u8::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::tokenizer;

    const PROMPT: &str = "write two points of care from the kind sea to the grand city";

    fn marks(response: &str, last: Option<u32>) -> Vec<usize> {
        let tokenizer = tokenizer().unwrap();
        // Special tokens are no text: only a policy that samples them puts them there.
        let words = response.split_whitespace();
        let mut ids: Vec<u32> = words
            .map(|word| tokenizer.token_to_id(word).unwrap())
            .collect();
        ids.extend(last);
        let marks = defect_marks(&tokenizer, PROMPT, &ids).unwrap();
        assert_eq!(marks.len(), ids.len());
        (0..marks.len()).filter(|&at| marks[at] == 1).collect()
    }

    #[test]
    fn defective_words_are_defective_tokens_and_an_early_end_is_eos() {
        let one = "first the gentle cloud guards a mighty bridge .";
        assert_eq!(marks(one, Some(2)), [3, 9]);
        assert_eq!(marks(one, None), [3, 8]);
        // A special token in the middle is a word of its own.
        assert_eq!(
            marks("first the gentle <s> guards a mighty bridge .", Some(2)),
            [3, 9]
        );
        assert_eq!(marks("", Some(2)), [0]);
        assert_eq!(marks("", None), [0; 0]);
    }

    #[test]
    fn other_prompts_and_other_ids_are_wrong_input() {
        let tokenizer = tokenizer().unwrap();
        let error = score("tell me a joke", "").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("word 1 is `tell`, expected `write`")
        );
        assert_eq!(error.exit_code(), 2);
        assert!(defect_marks(&tokenizer, PROMPT, &[9999]).is_err());
    }
}
