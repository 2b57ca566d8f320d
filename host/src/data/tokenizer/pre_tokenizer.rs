//! How byte-level vocabularies of GGUF files cut a text before merging: `tokenizer.ggml.pre` as a pre-tokenizer.
//!
//! Sources: llama.cpp's `llama-vocab.cpp` for the names, the models' own tokenizer.json for the patterns.

use serde_json::{Value, json};

/// The patterns of LLaMA 3: up to three digits, line breaks with what stands before them.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The same of Qwen: every digit alone.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The kinds and the names under which files ask for them.
const KINDS: [(PreTokenizer, &[&str]); 5] = [
    (PreTokenizer::Gpt2, &["gpt-2", "olmo"]),
    (
        PreTokenizer::Digits,
        &["smollm", "starcoder", "refact", "command-r", "codeshell"],
    ),
    (
        PreTokenizer::Llama3,
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"],
    ),
    (PreTokenizer::Llama3Merged, &["smaug-bpe", "dbrx"]),
    (PreTokenizer::Qwen2, &["qwen2", "deepseek-r1-qwen"]),
];

/// A way to cut a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PreTokenizer {
    /// Words with the space before them, numbers, punctuation.
    Gpt2,
    /// The same, and every digit alone.
    Digits,
    /// [`LLAMA3`]; a piece that is a token is taken as it is.
    Llama3,
    /// [`LLAMA3`], and every piece is merged.
    Llama3Merged,
    /// [`QWEN2`], behind Unicode's composition of characters.
    Qwen2,
}

impl PreTokenizer {
    /// The kind that a name asks for.
    pub(super) fn named(name: &str) -> Option<Self> {
        let found = KINDS.iter().find(|(_, names)| names.contains(&name));
        found.map(|(kind, _)| *kind)
    }

    /// All names, for messages.
    pub(super) fn names() -> String {
        let names = KINDS.iter().flat_map(|(_, names)| names.iter().copied());
        names.collect::<Vec<_>>().join(", ")
    }

    /// Whether a piece that is a token as a whole is taken without merging, and texts begin with BOS unless the file
    /// says otherwise.
    pub(super) fn is_llama3(self) -> bool {
        self == Self::Llama3
    }

    /// What is done to a text before it is cut, as tokenizer.json has it. llama.cpp leaves it out; the model was trained with it.
    pub(super) fn normalizer(self) -> Value {
        match self {
            Self::Qwen2 => json!({"type": "NFC"}),
            _ => Value::Null,
        }
    }

    /// As tokenizer.json has it.
    pub(super) fn to_json(self) -> Value {
        let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
        let both = |first: Value, second: Value| json!({"type": "Sequence", "pretokenizers": [first, second]});
        let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        match self {
            Self::Gpt2 => bytes(true),
            Self::Digits => both(
                json!({"type": "Digits", "individual_digits": true}),
                bytes(true),
            ),
            Self::Llama3 | Self::Llama3Merged => both(split(LLAMA3), bytes(false)),
            Self::Qwen2 => both(split(QWEN2), bytes(false)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::pre_tokenizers::PreTokenizerWrapper;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

    use super::*;

    /// The pieces of a text, spelled as in the text.
    fn pieces(kind: PreTokenizer, text: &str) -> Vec<String> {
        let cut: PreTokenizerWrapper = serde_json::from_value(kind.to_json()).expect("valid");
        let mut string = PreTokenizedString::from(text);
        cut.pre_tokenize(&mut string).expect("cut");
        let splits = string.get_splits(OffsetReferential::Original, OffsetType::Byte);
        let ranges = splits
            .into_iter()
            .map(|(_, (start, end), _)| text[start..end].to_owned());
        ranges.collect()
    }

    /// Expected: the patterns by hand; `tests/it/gguf.rs` compares ids with llama.cpp's.
    #[test]
    fn digits_contractions_and_line_breaks_are_cut_as_the_names_say() {
        let text = "I'M 12345\n\n x";
        assert_eq!(
            pieces(PreTokenizer::Gpt2, text),
            ["I", "'", "M", " 12345", "\n\n", " x"]
        );
        assert_eq!(
            pieces(PreTokenizer::Digits, text),
            ["I", "'", "M", " ", "1", "2", "3", "4", "5", "\n\n", " x"]
        );
        assert_eq!(
            pieces(PreTokenizer::Llama3, text),
            ["I", "'M", " ", "123", "45", "\n\n", " x"]
        );
        assert_eq!(
            pieces(PreTokenizer::Qwen2, text),
            ["I", "'M", " ", "1", "2", "3", "4", "5", "\n\n", " x"]
        );
        assert_eq!(PreTokenizer::named("smollm"), Some(PreTokenizer::Digits));
        assert_eq!(PreTokenizer::named("smollm3"), None);
        let merged = PreTokenizer::named("smaug-bpe").unwrap();
        assert_eq!(pieces(merged, text), pieces(PreTokenizer::Llama3, text));
        assert!(!merged.is_llama3());
    }
}
