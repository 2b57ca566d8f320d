//! The sandbox's tokenizer: one word, one token.

use tokenizers::models::wordlevel::WordLevel;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer as Inner};

use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};

const UNK: &str = "<unk>";
const BOS: &str = "<s>";
const EOS: &str = "</s>";

/// Tokens of the longest prompt: BOS and thirteen words.
pub const LONGEST_PROMPT: usize = 1 + 13;

/// Tokens of the longest response that the language has: three points of nine words, EOS.
pub const LONGEST_RESPONSE: usize =
    finegrain_rubric::MAX_POINTS * finegrain_rubric::SLOTS_PER_POINT + 1;

/// Tokens of the longest row.
pub(super) const LONGEST_ROW: usize = LONGEST_PROMPT + LONGEST_RESPONSE;

/// A tokenizer of the language's words, with `<unk>`, `<s>` and `</s>` as ids 0, 1 and 2. A prompt begins with `<s>`;
/// decoding joins words with single spaces.
pub fn tokenizer() -> Result<Tokenizer> {
    let special = [UNK, BOS, EOS];
    let words = special
        .into_iter()
        .chain(finegrain_rubric::vocabulary())
        .map(str::to_owned)
        .zip(0..);
    let fail = |error: &dyn std::fmt::Display| {
        Error::internal(format!("cannot build the sandbox's tokenizer: {error}"))
    };
    let model = WordLevel::builder()
        .vocab(words.collect())
        .unk_token(UNK.to_owned())
        .build()
        .map_err(|error| fail(&error))?;
    let begin = TemplateProcessing::builder()
        .try_single(format!("{BOS} $A"))
        .map_err(|error| fail(&error))?
        .special_tokens(vec![(BOS, 1)])
        .build()
        .map_err(|error| fail(&error))?;
    let mut inner = Inner::new(model);
    inner
        .with_pre_tokenizer(Some(WhitespaceSplit))
        .with_post_processor(Some(begin));
    // `<unk>` stays an ordinary word: a policy that says it must not get it for nothing by having it left out.
    inner
        .add_special_tokens([BOS, EOS].map(|token| AddedToken::from(token, true)))
        .map_err(|error| fail(&error))?;
    Tokenizer::new(inner, BOS, EOS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use finegrain_rubric::{Prompt, demonstrate, vocabulary};

    #[test]
    fn every_word_is_one_token_and_comes_back() {
        let tokenizer = tokenizer().unwrap();
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (1, 2));
        assert_eq!(tokenizer.vocab_size(), vocabulary().len() + 3);
        for (number, word) in vocabulary().into_iter().enumerate() {
            assert_eq!(tokenizer.encode(word).unwrap(), [number as u32 + 3]);
        }
        let text = "first the gentle wave guards a mighty bridge .";
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(ids.len(), 9);
        let ended: Vec<u32> = ids.into_iter().chain([2]).collect();
        assert_eq!(tokenizer.decode(&ended).unwrap(), text);
        assert_eq!(tokenizer.encode("unheard of").unwrap()[0], 0);
        assert_eq!(tokenizer.decode(&[0]).unwrap(), "<unk>");
    }

    #[test]
    fn no_row_is_longer_than_the_longest() {
        let tokenizer = tokenizer().unwrap();
        let mut longest = 0;
        for prompt in (0..Prompt::count()).step_by(11).filter_map(Prompt::nth) {
            let response = demonstrate(&prompt, 0.0, &mut || 1 << 60);
            let prompt = tokenizer.encode_prompt(&prompt.to_string()).unwrap();
            assert_eq!(prompt[0], tokenizer.bos());
            let row = prompt.len() + tokenizer.encode(&response).unwrap().len() + 1;
            longest = longest.max(row);
        }
        assert_eq!(longest, LONGEST_ROW);
    }

    #[test]
    fn the_files_hold_the_same_tokenizer() {
        let dir = tempfile::tempdir().unwrap();
        let tokenizer = tokenizer().unwrap();
        tokenizer.save(dir.path()).unwrap();
        let loaded = Tokenizer::load(dir.path()).unwrap();
        let text = "write one point of care from the kind sea to the grand city";
        assert_eq!(
            loaded.encode_prompt(text).unwrap(),
            tokenizer.encode_prompt(text).unwrap()
        );
        assert_eq!((loaded.bos(), loaded.eos()), (1, 2));
    }
}
