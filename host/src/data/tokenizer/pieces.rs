//! The text of every single token of a response.

use super::Tokenizer;
use crate::error::Result;

impl Tokenizer {
    /// One piece of text for each id behind a prompt's; together they are the text of all, as
    /// [`decode_behind`](Self::decode_behind) gives it. A special token is an empty piece, and a character of several tokens
    /// stands at the last of them.
    pub fn pieces(&self, prompt: &[u32], ids: &[u32]) -> Result<Vec<String>> {
        let whole = self.decode_behind(prompt, ids)?;
        let mut from = 0;
        (1..=ids.len())
            .map(|count| {
                let to = if count == ids.len() {
                    whole.len()
                } else {
                    from.max(shared(&whole, &self.decode_behind(prompt, &ids[..count])?))
                };
                let piece = whole[from..to].to_owned();
                from = to;
                Ok(piece)
            })
            .collect()
    }
}

/// Bytes of the characters that both texts begin with.
fn shared(a: &str, b: &str) -> usize {
    let pairs = a.chars().zip(b.chars());
    pairs
        .take_while(|(a, b)| a == b)
        .map(|(a, _)| a.len_utf8())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::decoders::byte_level::ByteLevel;
    use tokenizers::models::wordlevel::WordLevel;

    /// Bytes as GPT-2 spells them: 🙂 is F0 9F 99 82.
    fn tokenizer() -> Tokenizer {
        let words = ["<s>", "</s>", "a", "Ġb", "ðŁ", "ĻĤ", "<unk>"];
        let vocab = words.iter().zip(0..).map(|(w, id)| ((*w).to_owned(), id));
        let model = WordLevel::builder()
            .vocab(vocab.collect())
            .unk_token("<unk>".into())
            .build()
            .unwrap();
        let mut inner = tokenizers::Tokenizer::new(model);
        inner.with_decoder(Some(ByteLevel::default()));
        let special = ["<s>", "</s>"].map(|text| tokenizers::AddedToken::from(text, true));
        inner.add_special_tokens(special).unwrap();
        Tokenizer::new(inner, "<s>", "</s>").unwrap()
    }

    #[test]
    fn pieces_are_the_text_whatever_a_token_holds() {
        let tokenizer = tokenizer();
        let ids = [2, 3, 4, 5, 2, 1];
        let pieces = tokenizer.pieces(&[2], &ids).unwrap();
        assert_eq!(pieces, ["a", " b", "", "🙂", "a", ""]);
        assert_eq!(pieces.concat(), tokenizer.decode(&ids).unwrap());
        assert!(tokenizer.pieces(&[2], &[]).unwrap().is_empty());
        // Cut off inside a character: what the decoder makes of it stays with the last token.
        assert_eq!(tokenizer.pieces(&[2], &[2, 4]).unwrap(), ["a", "\u{fffd}"]);
    }
}
