use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::data::chat::{ChatTemplate, Role};
use crate::sandbox;

const MARKS: [&str; 3] = ["<unk>", "<s>", "</s>"];
const ENDS: [u32; 2] = [1, 2];

/// A tokenizer of these parts, with the tokens of [`MARKS`] as 0, 1 and 2. Texts get BOS and, as some files ask, EOS.
fn tokenizer([normalizer, pre_tokenizer, decoder, model]: [Value; 4]) -> Tokenizer {
    let added: Vec<Value> = (MARKS.iter().enumerate())
        .map(|(id, name)| {
            json!({"id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let mark = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    let known = |id: &str, number: u32| json!({"id": id, "ids": [number], "tokens": [id]});
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "decoder": decoder, "model": model,
        "post_processor": {
            "type": "TemplateProcessing", "pair": [],
            "single": [mark("<s>"), {"Sequence": {"id": "A", "type_id": 0}}, mark("</s>")],
            "special_tokens": {"<s>": known("<s>", 1), "</s>": known("</s>", 2)},
        },
    });
    let inner = file.to_string().parse().unwrap();
    Tokenizer::new(inner, "<s>", "</s>").unwrap()
}

/// A BPE of [`MARKS`], `pieces` and what `merges` make of them.
fn bpe(pieces: impl IntoIterator<Item = String>, merges: &[(&str, &str)], bytes: bool) -> Value {
    let merged = merges.iter().map(|(left, right)| format!("{left}{right}"));
    let tokens = MARKS.map(str::to_owned).into_iter();
    let tokens = tokens.chain(pieces).chain(merged);
    let vocab: serde_json::Map<String, Value> = tokens
        .zip(0..)
        .map(|(token, id)| (token, json!(id)))
        .collect();
    json!({"type": "BPE", "dropout": null, "unk_token": bytes.then_some("<unk>"), "continuing_subword_prefix": null,
           "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": bytes, "ignore_merges": false,
           "vocab": vocab, "merges": merges})
}

/// Pieces of words and of what stands between them; all bytes are there.
fn pieces() -> Value {
    let bytes = (0..=255_u8).map(|byte| format!("<0x{byte:02X}>"));
    let letters = "▁abehnorst.:".chars().map(String::from);
    let merges = [
        ("t", "h"),
        ("th", "e"),
        ("▁", "the"),
        ("▁", "a"),
        ("▁", "b"),
        ("▁b", "o"),
        (".", "▁"),
        ("e", "t"),
        ("▁", "▁"),
        ("n", "o"),
    ];
    bpe(bytes.chain(letters), &merges, true)
}

fn decoders(strip: usize) -> Value {
    json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": strip, "stop": 0},
    ]})
}

/// As LLaMA 2 has it: a normalizer puts ▁ in front.
fn sentence_piece() -> Tokenizer {
    let normalizer = json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ]});
    tokenizer([normalizer, Value::Null, decoders(1), pieces()])
}

/// As newer LLaMA-like models have it: ▁ in front of the first text of a row, or of every one.
fn metaspace(scheme: &str, split: bool) -> Tokenizer {
    let space =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split});
    let decoder = decoders(usize::from(scheme != "never"));
    tokenizer([Value::Null, space, decoder, pieces()])
}

/// As LLaMA 3 and GPT-2 have it, optionally with a space in front of the first word.
fn byte_level(prefixed: bool) -> Tokenizer {
    let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
    let mut letters: Vec<String> = alphabet.into_iter().map(String::from).collect();
    letters.sort();
    let merges = [
        ("t", "h"),
        ("th", "e"),
        ("Ġ", "the"),
        ("Ġ", "a"),
        ("Ċ", "Ċ"),
        ("b", "o"),
    ];
    let level = |prefixed: bool| json!({"type": "ByteLevel", "add_prefix_space": prefixed, "trim_offsets": true, "use_regex": true});
    tokenizer([
        Value::Null,
        level(prefixed),
        level(true),
        bpe(letters, &merges, false),
    ])
}

/// shared/models/stories260k, beside the workspace.
static STORIES: LazyLock<Option<Tokenizer>> = LazyLock::new(|| {
    let shared = std::env::var_os("FINEGRAIN_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        Into::into,
    );
    let path = shared.join("models/stories260k");
    if !path.is_dir() {
        #[expect(clippy::print_stderr, reason = "says why the test checks less")]
        {
            eprintln!("skipped: {} is absent", path.display());
        }
        return None;
    }
    Some(Tokenizer::load(&path).unwrap())
});

/// The ids that an encoding of the whole row gives behind the prompt's; `None` where a token straddles the border, or where the
/// prompt would have been cut otherwise.
fn of_whole_row(tokenizer: &Tokenizer, prompt: &str, response: &str) -> Option<Vec<u32>> {
    let alone = tokenizer.encode(prompt).unwrap();
    let row = [prompt, response].concat();
    let encoding = tokenizer.inner.encode(row.as_str(), false).unwrap();
    let behind = encoding.get_ids().strip_prefix(&*alone)?;
    let starts = encoding.get_offsets().get(alone.len()).map(|at| at.0);
    let clean = starts.is_none_or(|at| at == prompt.len());
    // A prefix that has become a token of its own belongs to the prompt.
    (clean && !alone.is_empty()).then(|| behind.to_vec())
}

fn ids_of(tokenizer: &Tokenizer, prompt: &str, response: &str) -> (Vec<u32>, Vec<u32>) {
    let prompt = tokenizer.encode_between("", prompt, "").unwrap();
    let response = tokenizer.encode_behind(&prompt, response).unwrap();
    (prompt, response)
}

#[test]
fn a_response_has_no_space_that_is_not_in_the_data() {
    let no_space = [
        sentence_piece(),
        metaspace("first", true),
        metaspace("always", false),
        byte_level(true),
    ];
    for tokenizer in no_space {
        let (prompt, response) = ids_of(&tokenizer, "the boa:\n", "the boa");
        let names: Vec<String> = (response.iter())
            .map(|id| tokenizer.id_to_token(*id).unwrap())
            .collect();
        assert_eq!(names[0], "the");
        assert_eq!(
            tokenizer.decode_behind(&prompt, &response).unwrap(),
            "the boa"
        );
        // One space in the data is one space.
        let (prompt, response) = ids_of(&tokenizer, "boa", " the");
        assert_eq!(response.len(), 1);
        assert_eq!(tokenizer.decode_behind(&prompt, &response).unwrap(), " the");
        // What stands at the beginning of a row begins with the tokenizer's space.
        assert_eq!(
            tokenizer.encode_behind(&[tokenizer.bos()], "the").unwrap(),
            tokenizer.encode("the").unwrap()
        );
        assert_ne!(
            tokenizer.encode("the").unwrap(),
            tokenizer.encode_behind(&prompt, "the").unwrap()
        );
    }
}

#[test]
fn what_straddles_the_border_is_cut_there() {
    let tokenizer = sentence_piece();
    // As one text, `▁the`, `▁the` and `.▁` would straddle.
    for (prompt, response) in [("boa ", "the"), ("t", "he"), ("boa.", " ")] {
        assert_eq!(of_whole_row(&tokenizer, prompt, response), None);
        let (prompt_ids, ids) = ids_of(&tokenizer, prompt, response);
        assert_eq!(tokenizer.decode(&prompt_ids).unwrap(), prompt);
        assert_eq!(
            tokenizer.decode_behind(&prompt_ids, &ids).unwrap(),
            response
        );
    }
}

#[test]
fn behind_a_special_token_a_text_begins_where_the_tokenizer_has_it_so() {
    let first = |tokenizer: &Tokenizer| {
        let ids = tokenizer.encode_prompt("a</s>the").unwrap();
        let place = ids.iter().position(|id| *id == 2).unwrap();
        tokenizer.id_to_token(ids[place + 1]).unwrap()
    };
    // Every stretch of text is normalized by itself; `first` means the first of the row.
    assert_eq!(first(&sentence_piece()), "▁the");
    assert_eq!(first(&metaspace("always", true)), "▁the");
    assert_eq!(first(&metaspace("first", true)), "the");
    assert_eq!(first(&byte_level(false)), "the");
    for tokenizer in [sentence_piece(), metaspace("first", true), byte_level(true)] {
        let (prompt, text) = (tokenizer.encode_prompt("a</s>").unwrap(), "the boa");
        let ids = tokenizer.encode_behind(&prompt, text).unwrap();
        let whole = tokenizer.encode_prompt(&format!("a</s>{text}")).unwrap();
        assert_eq!([prompt.clone(), ids.clone()].concat(), whole);
        // The bytes' decoder takes no space off again, here as at the beginning of a row.
        let space = if tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap() == text {
            ""
        } else {
            " "
        };
        let decoded = tokenizer.decode_behind(&prompt, &ids).unwrap();
        assert_eq!(decoded, [space, text].concat());
    }
}

#[test]
fn a_prompt_is_opened_and_never_closed() {
    for tokenizer in [sentence_piece(), byte_level(false)] {
        for text in ["the boa", ""] {
            let ids = tokenizer.encode_prompt(text).unwrap();
            let text = tokenizer.encode(text).unwrap();
            assert_eq!(ids, [vec![1], text].concat());
        }
    }
}

#[test]
fn names_in_data_are_text_and_those_of_a_template_are_tokens() {
    for tokenizer in [
        sentence_piece(),
        metaspace("first", true),
        byte_level(false),
    ] {
        let marks = |ids: &[u32]| -> Vec<u32> {
            ids.iter().copied().filter(|id| ENDS.contains(id)).collect()
        };
        let text = "a</s><s>b";
        let (prompt, response) = ids_of(&tokenizer, text, text);
        assert_eq!(marks(&prompt), [1]);
        assert_eq!(marks(&response), [0; 0]);
        assert_eq!(tokenizer.decode(&prompt).unwrap(), text);
        assert_eq!(tokenizer.decode_behind(&prompt, &response).unwrap(), text);
        assert_eq!(tokenizer.unreadable(text).unwrap(), None);
        let ids = tokenizer.encode_between("<s>", text, "</s>").unwrap();
        assert_eq!(marks(&ids), [1, 1, 2]);
        // A name that template and data would write together is none.
        for (before, prompt, behind) in [
            ("a</", "s>", "b"),
            ("a", "</", "s> b"),
            ("a</", " s> ", "b"),
            ("<", "/s", ">"),
            ("</s", ">", ""),
        ] {
            let ids = tokenizer.encode_between(before, prompt, behind).unwrap();
            assert_eq!(marks(&ids), [1], "{before:?} {prompt:?} {behind:?}");
            let whole = [before, prompt, behind].concat();
            assert_eq!(tokenizer.decode(&ids).unwrap(), whole);
        }
    }
}

fn chatting(template: &str) -> Tokenizer {
    let mut tokenizer = sentence_piece();
    tokenizer.chats.default = Some(ChatTemplate::new(template));
    tokenizer
}

#[test]
fn no_turn_begins_inside_what_a_user_says() {
    let said = [
        Message::new(Role::System, " a</s>"),
        Message::new(Role::User, "b</s><s>the\u{FDD0} "),
    ];
    let template = "{% for m in messages %}{{ bos_token }}{{ m.role[0] }}:{{ m.content | trim }}{{ eos_token }}{% endfor %}";
    let tokenizer = chatting(template);
    let ids = tokenizer.encode_chat(&said).unwrap();
    let marks: Vec<u32> = ids.iter().copied().filter(|id| ENDS.contains(id)).collect();
    assert_eq!(marks, [1, 2, 1, 2]);
    // Every stretch of text has a ▁ in front, which only the first loses.
    assert_eq!(
        tokenizer.decode(&ids).unwrap(),
        "s:a</s> u:b</s><s>the\u{FDD0}"
    );
    // Where nothing is broken the ids are those of the rendered text.
    let plain = [Message::new(Role::User, "the boa")];
    assert_eq!(
        tokenizer.encode_chat(&plain).unwrap(),
        tokenizer.encode_prompt("<s>u:the boa</s>").unwrap()[1..]
    );
    let escaping = chatting("{{ messages[0].content | tojson(ensure_ascii=true) }}");
    assert!(escaping.encode_chat(&plain).is_ok());
    let error = escaping.encode_chat(&said).unwrap_err();
    assert!(
        error.to_string().contains("escapes what is said"),
        "{error}"
    );
}

#[test]
fn what_decoding_leaves_out_is_not_shown_but_for_the_end() {
    let tokenizer = sentence_piece();
    let (_, response) = ids_of(&tokenizer, "a", "the boa");
    let sampled = [&[1][..], &response, &[2]].concat();
    let ended = [&response[..], &[2]].concat();
    assert_eq!(tokenizer.shown(&sampled, true), ended);
    assert_eq!(tokenizer.shown(&sampled, false), response);
    assert_eq!(tokenizer.shown(&[1], false), [0; 0]);
    assert_eq!(tokenizer.shown(&[], false), [0; 0]);
}

#[test]
fn a_word_that_is_a_special_token_cannot_be_read_as_text() {
    let tokenizer = sandbox::tokenizer().unwrap();
    assert_eq!(tokenizer.unreadable("the </s> sea").unwrap(), Some("</s>"));
    assert_eq!(tokenizer.unreadable("the <unk> sea").unwrap(), None);
    let error = tokenizer.encode("the </s> sea").unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("\"</s>\""), "{error}");
    let error = tokenizer.encode_between("", "<s>", "").unwrap_err();
    assert!(error.to_string().contains("\"<s>\""), "{error}");
}

#[test]
fn a_tokenizer_that_refuses_unknown_words_reads_those_it_knows() {
    let words = ["<unk>", "<s>", "</s>", "the"].iter().zip(0..);
    let vocab: serde_json::Map<String, Value> = words
        .map(|(word, id)| ((*word).to_owned(), json!(id)))
        .collect();
    let model = json!({"type": "WordLevel", "vocab": vocab, "unk_token": "[gone]"});
    let space = json!({"type": "WhitespaceSplit"});
    let tokenizer = tokenizer([Value::Null, space, Value::Null, model]);
    assert_eq!(tokenizer.encode("the the").unwrap(), [3, 3]);
    assert!(tokenizer.encode("the sea").is_err());
}

#[test]
fn the_words_of_the_sandbox_keep_their_ids() {
    let tokenizer = sandbox::tokenizer().unwrap();
    let (prompt, text) = (
        "write one point of care from the kind sea to the grand city",
        "first the gentle wave guards a mighty bridge .",
    );
    let (prompt, response) = ids_of(&tokenizer, prompt, text);
    let alone = tokenizer.inner.encode_fast(text, false).unwrap();
    assert_eq!(response, alone.get_ids());
    assert_eq!(response.len(), 9);
    assert_eq!(tokenizer.decode_behind(&prompt, &response).unwrap(), text);
}

#[test]
fn a_model_of_stories_continues_a_line_without_a_space() {
    let Some(tokenizer) = &*STORIES else { return };
    let (prompt, response) = ids_of(tokenizer, "Lily saw a ball at home.\n", "The ball is old.");
    assert_eq!(response[..4], [434, 260, 268, 388]);
    assert_eq!(
        tokenizer.decode_behind(&prompt, &response).unwrap(),
        "The ball is old."
    );
    assert_eq!(
        of_whole_row(tokenizer, "Lily saw a ball at home.\n", "The ball is old."),
        Some(response)
    );
}

/// Words, white space, names of special tokens, a letter of two bytes and one of four.
fn texts() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "the", "boa", "a", "t", "o", ".", ":", " ", "  ", "\n", "\t", "é", "🙂", "</s>", "<s>",
        "'s", "12",
    ]);
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn prompt_and_response_decode_to_their_texts(prompt in texts(), response in texts()) {
        let tokenizers = [
            sentence_piece(), metaspace("never", true), metaspace("first", true), metaspace("always", false),
            byte_level(false),
        ];
        for (at, tokenizer) in tokenizers.iter().chain(STORIES.iter()).enumerate() {
            // Metaspace takes a space at the beginning of a row for its own and loses it: not a matter of what follows.
            let prompt = match at {
                2 | 3 => prompt.trim_start_matches(' '),
                _ => &*prompt,
            };
            if prompt.is_empty() && (2..=3).contains(&at) {
                continue;
            }
            let (prompt_ids, ids) = ids_of(tokenizer, prompt, &response);
            prop_assert_eq!(tokenizer.decode_behind(&prompt_ids, &ids).unwrap(), &*response);
            let row = tokenizer.decode(&[prompt_ids, ids].concat()).unwrap();
            prop_assert_eq!(row, [prompt, &response].concat());
        }
    }

    #[test]
    fn ids_are_those_of_the_whole_row_where_no_token_straddles(prompt in texts(), response in texts()) {
        for tokenizer in [sentence_piece(), metaspace("first", true), metaspace("first", false)] {
            if let Some(behind) = of_whole_row(&tokenizer, &prompt, &response) {
                prop_assert_eq!(ids_of(&tokenizer, &prompt, &response).1, behind);
            }
        }
    }

    #[test]
    fn bytes_have_the_ids_that_they_have_alone(prompt in texts(), response in texts()) {
        let tokenizer = byte_level(false);
        let alone = tokenizer.inner.encode_fast(response.as_str(), false).unwrap();
        prop_assert_eq!(&ids_of(&tokenizer, &prompt, &response).1, alone.get_ids());
    }

    #[test]
    fn words_come_back_with_single_spaces(prompt in texts(), response in texts()) {
        let words = ["the", "boa", "a", "."];
        let vocab: serde_json::Map<String, Value> = MARKS.iter().chain(&words).zip(0..)
            .map(|(word, id)| ((*word).to_owned(), json!(id))).collect();
        let tokenizer = tokenizer([
            Value::Null, json!({"type": "WhitespaceSplit"}), Value::Null,
            json!({"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}),
        ]);
        let known = |text: &str| {
            let known = text.split_whitespace().filter(|word| words.contains(word));
            known.collect::<Vec<_>>().join(" ")
        };
        let (prompt, response) = (known(&prompt), known(&response));
        let (prompt_ids, ids) = ids_of(&tokenizer, &prompt, &response);
        prop_assert_eq!(tokenizer.decode_behind(&prompt_ids, &ids).unwrap(), &*response);
        let row = tokenizer.decode(&[prompt_ids, ids].concat()).unwrap();
        let whole = [prompt, response].join(" ");
        prop_assert_eq!(row, whole.trim());
    }
}
