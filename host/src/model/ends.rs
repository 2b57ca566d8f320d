//! Which tokens end a response. Up to three files say so: config.json, `generation_config.json` (where chat models name the end of a
//! turn, often there alone) and the tokenizer's. A response that ends with any of them is finished; whoever asked one file alone
//! let the model talk on, or counted a finished answer as cut.

use std::collections::BTreeSet;
use std::path::Path;

use super::checkpoint;
use super::config::CausalLmConfig;
use crate::data::tokenizer::Tokenizer;
use crate::error::Result;

/// The tokens that end a response: the tokenizer's EOS, which also closes texts of data, and those that the model's files name.
pub fn ends(config: &CausalLmConfig, tokenizer: &Tokenizer) -> Vec<u32> {
    let mut ends = vec![tokenizer.eos()];
    for id in &config.eos_token_id {
        if !ends.contains(id) {
            ends.push(*id);
        }
    }
    ends
}

/// Token ids in words: `2 ("</s>") or 13 ("\n")`.
pub fn in_words(ids: &[u32], tokenizer: &Tokenizer) -> String {
    let words: Vec<_> = ids
        .iter()
        .map(|id| match tokenizer.id_to_token(*id) {
            Some(token) => format!("{id} ({token:?})"),
            None => id.to_string(),
        })
        .collect();
    words.join(" or ")
}

/// What to say of a model whose files disagree on the end of a response; files that name no token disagree with nobody.
///
/// # Errors
/// A file that cannot be read.
pub fn disagreement(path: &Path, tokenizer: &Tokenizer) -> Result<Option<String>> {
    let mut named = checkpoint::named_ends(path)?;
    named.push(("the tokenizer".to_owned(), vec![tokenizer.eos()]));
    named.retain(|(_, ids)| !ids.is_empty());
    let set = |ids: &[u32]| ids.iter().copied().collect::<BTreeSet<_>>();
    if named.iter().all(|(_, ids)| set(ids) == set(&named[0].1)) {
        return Ok(None);
    }
    let said: Vec<_> = named
        .iter()
        .map(|(source, ids)| format!("{source}: {}", in_words(ids, tokenizer)))
        .collect();
    Ok(Some(format!(
        "the model's files disagree on what ends a response ({}); any of them does, and texts of the data are closed with the \
         tokenizer's",
        said.join("; ")
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::fixture;
    use crate::sandbox;

    /// The small model and the sandbox's tokenizer, whose EOS is 2, with what the two files name.
    fn folder(own: &Value, generation: Option<&Value>) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fixture::model(true).unwrap().save(dir.path()).unwrap();
        sandbox::tokenizer().unwrap().save(dir.path()).unwrap();
        let file = dir.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        config["eos_token_id"] = own.clone();
        std::fs::write(&file, config.to_string()).unwrap();
        if let Some(ids) = generation {
            let text = json!({ "eos_token_id": ids }).to_string();
            std::fs::write(dir.path().join("generation_config.json"), text).unwrap();
        }
        dir
    }

    #[test]
    fn any_token_that_a_file_names_ends_a_response() {
        for (own, generation, expected) in [
            (json!(2), None, vec![2]),
            (json!(null), None, vec![2]),
            (json!(2), Some(json!([2, 7])), vec![2, 7]),
            (json!([5, 2]), Some(json!(7)), vec![2, 5, 7]),
        ] {
            let dir = folder(&own, generation.as_ref());
            let tokenizer = Tokenizer::load(dir.path()).unwrap();
            let config = checkpoint::sizes(dir.path()).unwrap();
            assert_eq!(ends(&config, &tokenizer), expected);
            let loaded = crate::model::CausalLm::load(dir.path()).unwrap();
            assert_eq!(loaded.config(), &config);
        }
    }

    #[test]
    fn files_that_disagree_are_named_with_what_they_say() {
        let said = |own: &Value, generation: Option<&Value>| {
            let dir = folder(own, generation);
            let tokenizer = Tokenizer::load(dir.path()).unwrap();
            disagreement(dir.path(), &tokenizer).unwrap()
        };
        assert_eq!(said(&json!(2), None), None);
        assert_eq!(said(&json!(null), Some(&json!([2]))), None);
        let text = said(&json!(2), Some(&json!([7, 2]))).unwrap();
        for words in [
            "config.json: 2 (\"</s>\");",
            "generation_config.json: 7 (",
            "the tokenizer: 2 (\"</s>\")",
        ] {
            assert!(text.contains(words), "{text}");
        }
    }
}
