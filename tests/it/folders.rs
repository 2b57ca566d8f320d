//! Model folders, adapters and GGUF files as people have them: cases made up after bug reports, which lie outside of the project.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use finegrain::data::chat::{Message, Role};
use finegrain::model::{self, Sampling, Source};
use finegrain::{Error, Result};
use finegrain_tests::shared;

static GO: AtomicBool = AtomicBool::new(false);

const PROMPT: &str = "Once upon a time";
/// What the 260K-parameter model says (transformers 5.24).
const STORY: &str = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, \
                     red ball. She wanted to play with it, but it was too high.";
/// What it says with the adapter on queries and values (PEFT 0.21).
const ADAPTED: &str = "Once upon a time, there was a little girl named Lily. She loved to play with her toys and her friends. One day, she \
                       went to the park to play with her friends. They played together and had lots of";

fn told_on(path: &Path, base: Option<&Path>, tokens: usize) -> Result<model::Completion> {
    let greedy = Sampling::greedy(tokens, vec![]);
    model::complete(Source { path, base }, PROMPT, &greedy, 1, &GO)
}

fn told(path: &Path) -> Result<model::Completion> {
    told_on(path, None, 57)
}

/// The refusal, which is the user's to act on and whose message and hint hold all words.
fn refused<T: std::fmt::Debug>(result: Result<T>, words: &[&str]) -> Error {
    let error = result.expect_err("refused");
    let text = format!("{error}\n{}", error.hint_text().unwrap_or_default());
    assert_eq!(error.exit_code(), 2, "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
    error
}

#[test]
fn embeddings_beside_an_adapter_are_never_dropped() -> Result<()> {
    let Some(cases) = shared("cases/02-lora-embeddings-beside") else {
        return Ok(());
    };
    let Some(base) = shared("models/stories260k") else {
        return Ok(());
    };
    let told = |name: &str| told_on(&cases.join(name), Some(&base), 57);
    assert_eq!(told("control")?.text, ADAPTED);
    refused(
        told("trained-embedding"),
        &["embed_tokens.weight", "[512, 64]", "merge_and_unload"],
    );
    Ok(())
}

#[test]
fn tensors_that_nobody_asked_for_are_refused_but_for_buffers() -> Result<()> {
    let Some(cases) = shared("cases/04-hf-tensors-nobody-asked-for") else {
        return Ok(());
    };
    for (name, tensor) in [
        ("attention-biases", "_proj.bias"),
        ("query-key-norms", "_norm.weight"),
    ] {
        refused(told(&cases.join(name)), &[tensor, "belongs to nothing"]);
    }
    assert_eq!(told(&cases.join("inv-freq-must-load"))?.text, STORY);
    Ok(())
}

#[test]
fn generation_config_json_alone_ends_a_response() -> Result<()> {
    let Some(folder) = shared("cases/06-eos-only-in-generation-config/model") else {
        return Ok(());
    };
    // The token that ends it is a line break, which is text.
    assert_eq!(told_on(&folder, None, 128)?.text, format!("{STORY}\n"));
    Ok(())
}

#[test]
fn chat_templates_render_as_jinja_renders_them() -> Result<()> {
    let Some(cases) = shared("cases/11-chat-templates") else {
        return Ok(());
    };
    let answered = |name: &str| {
        let said = "Once upon a time, there was a little girl named Lily.";
        let asked = [Message::new(Role::User, said)];
        let greedy = Sampling::greedy(24, vec![]);
        model::answer(&cases.join(name), &asked, &greedy, 1, &GO)
    };
    let park = "Lily and her mommy went to the park to play. They saw a big, red ball";
    assert_eq!(answered("lf")?.text, park);
    assert_eq!(answered("crlf")?.text, park);
    let mom = "Lily went to the park with her mommy. They saw a big, red ball. Lily";
    assert_eq!(answered("plain")?.text, mom);
    assert_eq!(answered("rsplit")?.text, mom);
    refused(
        answered("named-without-default"),
        &["named tool_use, rag and none named default"],
    );
    Ok(())
}

#[test]
fn a_padding_token_beyond_the_table_loads_with_a_line() -> Result<()> {
    let Some(folder) = shared("cases/21-pad-token-beyond-the-table/model") else {
        return Ok(());
    };
    let told = told(&folder)?;
    assert_eq!(told.text, STORY);
    let [remark] = told.remarks.as_slice() else {
        panic!("{:?}", told.remarks);
    };
    assert!(remark.contains("id 512"), "{remark}");
    Ok(())
}

#[test]
fn a_head_or_a_table_that_is_not_there_is_found_or_asked_for() -> Result<()> {
    let Some(cases) = shared("cases/22-head-or-embedding-missing") else {
        return Ok(());
    };
    assert_eq!(told(&cases.join("tied-only-head-saved"))?.text, STORY);
    for name in ["untied-flag-no-head", "no-flag-no-head"] {
        refused(
            told(&cases.join(name)),
            &["\"lm_head.weight\"", "\"tie_word_embeddings\": true"],
        );
    }
    Ok(())
}

#[test]
fn adapters_are_spelled_as_peft_spells_them() -> Result<()> {
    let Some(cases) = shared("cases/24-lora-spellings") else {
        return Ok(());
    };
    assert_eq!(told(&cases.join("regex"))?.text, ADAPTED);
    assert_eq!(
        told(&cases.join("full-names-two-layers"))?.text,
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park with her friends. One day, \
         Lily's mommy told her that she was going to the park to play with her"
    );
    // A hub id is not asked of a hub where the base is named.
    let base = cases.join("base");
    assert_eq!(
        told_on(&cases.join("hub-base"), Some(&base), 57)?.text,
        ADAPTED
    );
    Ok(())
}

#[test]
fn gguf_files_load_or_say_what_they_are() -> Result<()> {
    let Some(cases) = shared("cases/33-gguf-variants") else {
        return Ok(());
    };
    let file = |name: &str| cases.join(format!("{name}.gguf"));
    for name in ["control", "integer-kinds"] {
        assert_eq!(told(&file(name))?.text, STORY);
    }
    refused(told(&file("iq4-nl")), &["stored as IQ4_NL", "tensor \""]);
    refused(told(&file("lora-adapter")), &["an adapter and no model"]);
    refused(told(&file("a-web-page")), &["begins with", "a web page"]);
    let asked = [Message::new(Role::User, "hi")];
    let greedy = Sampling::greedy(4, vec![]);
    refused(
        model::answer(&file("templates-by-name"), &asked, &greedy, 1, &GO),
        &["tool_use", "none named default"],
    );
    Ok(())
}
