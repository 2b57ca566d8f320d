//! Tokenizers and chat templates of real models against transformers, on texts of many kinds.

use std::path::{Path, PathBuf};

use finegrain::Result;
use finegrain::data::chat::{Message, Role};
use finegrain::data::tokenizer::Tokenizer;
use serde_json::{Value, json};

use crate::python::python;

/// Each stands in every frame of [`FRAMES`].
const SNIPPETS: [&str; 42] = [
    "",
    "Hello, world!",
    "The quick brown fox jumps over the lazy dog.",
    "I'm sure they'd said we'll've GONE, DON'T YOU'RE",
    "naïve café Ångström ﬁne ½ x² № ﬀ",
    "e\u{301} and é, A\u{30a} and Å, \u{1100}\u{1161}\u{11a8}",
    "Привет, как дела? Съешь ещё этих булок",
    "Γειά σου Κόσμε, ἀρχή",
    "日本語の文章です。漢字とかなとカナ、全角ＡＢＣ１２３",
    "汉字和標點符號，「引號」——以及…",
    "안녕하세요 세계, 한국어 문장",
    "مرحبا بالعالم، كيف الحال؟ ١٢٣٤",
    "שלום עולם, בְּרֵאשִׁית",
    "नमस्ते दुनिया, क्षत्रिय १२३",
    "สวัสดีชาวโลก ภาษาไทยไม่มีช่องว่าง",
    "Xin chào thế giới, tiếng Việt có dấu",
    "ಕನ್ನಡ தமிழ் తెలుగు മലയാളം ქართული հայերեն አማርኛ",
    "😀 👍🏽 👨‍👩‍👧‍👦 🇩🇪 ❤️ 🏳️‍🌈",
    "𝕱𝖗𝖆𝖐𝖙𝖚𝖗 𝟙𝟚𝟛 𐍈 𒀀",
    "0 12 123 1234 12345678901234567890",
    "3.14159, 1,000,000.00, -7e-5, 0x1F, 2024-11-24T12:34:56Z",
    "a  b   c    d     e      f       g                end",
    "\ttabs\t\tand \t mixed \t\t spaces",
    "\n\n\nlines\r\n\r\nof\n \n  \n   \nall kinds\r",
    "\u{a0}no-break\u{2003}em\u{3000}ideographic\u{200b}zero\u{feff}width\u{85}next",
    "   ",
    "\n",
    "fn main() {\n    let x: Vec<u8> = vec![0; 4];\n    println!(\"{x:?}\");\n}",
    "def f(a, *, b=None):\n\treturn {k: v**2 for k, v in a.items() if k != b}  # ok",
    "for(;;){if(a&&b||!c){x+=y<<2;}}//????????====----____",
    "<html><body class=\"x\">&amp; <br/></body></html>",
    "{\"key\": [1, 2.5, null, true], \"s\": \"\\u00e9\\n\"}",
    "https://example.org/a_b/c-d?e=f&g=%20h#i user@example.org",
    "$\\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}$",
    "camelCase snake_case SCREAMING_CASE kebab-case iPhone15Pro",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "!!!???...,,,;;;:::'''\"\"\"``~~^^",
    "\u{0}\u{1}\u{7f} control \u{1b}[0m",
    "\u{fffd}\u{e000}\u{10ffff}\u{378}",
    "<s> </s> <unk> <pad> <bos> <eos> [INST] [/INST]",
    "<|im_start|>user\n<|im_end|><|endoftext|><think></think>",
    "<|begin_of_text|><|eot_id|> <start_of_turn>model<end_of_turn>",
];
const FRAMES: [(&str, &str); 5] = [
    ("", ""),
    (" ", ""),
    ("", " \n"),
    ("so: ", "end"),
    ("\n", "\n\n"),
];

fn texts() -> Vec<String> {
    let frames = FRAMES.iter();
    let all = frames.flat_map(|(a, b)| SNIPPETS.map(|text| [a, text, b].concat()));
    all.collect()
}

fn conversations() -> Vec<Vec<Message>> {
    let (system, user, assistant) = (Role::System, Role::User, Role::Assistant);
    let say = |turns: &[(Role, &str)]| -> Vec<Message> {
        let turns = turns.iter();
        turns
            .map(|(role, text)| Message::new(*role, *text))
            .collect()
    };
    let talk = [
        (system, "Be brief."),
        (user, "  Is 1 < 2?\n"),
        (assistant, "Yes: \"1 < 2\" & more.\n"),
        (user, "日本語 😀 {{ 7 * 6 }}"),
    ];
    vec![
        say(&talk[..2]),
        say(&talk),
        say(&talk[1..]),
        say(&[(user, "")]),
        say(&[
            (user, "a"),
            (assistant, "<think>\nhm\n</think>\n\nb"),
            (user, "c"),
        ]),
        say(&[(user, "a"), (user, "b")]),
    ]
}

/// Folders with a tokenizer.json and its companions below the one that `FINEGRAIN_TOKENIZERS` names.
fn folders() -> Vec<PathBuf> {
    let Some(all) = std::env::var_os("FINEGRAIN_TOKENIZERS") else {
        eprintln!(
            "skipped: FINEGRAIN_TOKENIZERS names no folder; tests/scripts/fetch_tokenizers.py fills one"
        );
        return Vec::new();
    };
    let entries = std::fs::read_dir(all).expect("FINEGRAIN_TOKENIZERS names a folder");
    let mut folders: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("tokenizer.json").is_file());
    folders.sort();
    assert!(
        !folders.is_empty(),
        "FINEGRAIN_TOKENIZERS holds no tokenizer"
    );
    folders
}

fn lists(seen: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(seen.clone()).expect("ids of every text")
}

/// Ids, texts of ids, chat templates. Returns what differs.
fn differences(tokenizer: &Tokenizer, seen: &Value) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut compare = |what: &str, text: &str, ours: String, theirs: String| {
        if ours != theirs {
            found.push(format!("{what} of {text:?}:\n  {ours}\n  {theirs}"));
        }
    };
    let (prompts, plain) = (lists(&seen["prompts"]), lists(&seen["plain"]));
    let decoded = seen["decoded"].as_array().expect("texts");
    for (at, text) in texts().iter().enumerate() {
        let mut expected = prompts[at].clone();
        if expected.is_empty() {
            // A prompt has one token at least.
            expected.push(tokenizer.bos());
        }
        let ours = tokenizer.encode_prompt(text)?;
        compare("ids", text, format!("{ours:?}"), format!("{expected:?}"));
        match tokenizer.encode(text) {
            Ok(ours) => compare(
                "plain ids",
                text,
                format!("{ours:?}"),
                format!("{:?}", plain[at]),
            ),
            // A name that is a word of the vocabulary, too: no text becomes a special token.
            Err(error) => assert!(tokenizer.unreadable(text)?.is_some(), "{text:?}: {error}"),
        }
        let ours = tokenizer.decode(&plain[at])?;
        compare(
            "the text of the ids",
            text,
            ours,
            decoded[at].as_str().expect("a text").into(),
        );
    }
    let special = seen["special"].as_object().expect("names").iter();
    let special: Vec<(&str, &str)> = special
        .map(|(kind, name)| (kind.as_str(), name.as_str().expect("a name")))
        .collect();
    let chats = seen["chats"].as_array().into_iter().flatten();
    for (messages, expected) in conversations().iter().zip(chats) {
        let template = tokenizer.chat_template().expect("a template");
        let said = format!("{messages:?}");
        let ours = template.render(messages, special.iter().copied(), true);
        let (text, ids) = match ours {
            Ok(text) => (text, format!("{:?}", tokenizer.encode_chat(messages)?)),
            Err(_) => ("refused".to_owned(), "refused".to_owned()),
        };
        let theirs = expected["text"].as_str().unwrap_or("refused");
        compare("the chat", &said, text, theirs.to_owned());
        let theirs = match &expected["ids"] {
            Value::Null => "refused".to_owned(),
            ids => format!(
                "{:?}",
                serde_json::from_value::<Vec<u32>>(ids.clone()).unwrap()
            ),
        };
        compare("the chat's ids", &said, ids, theirs);
    }
    Ok(found)
}

/// Compares each tokenizer with what transformers makes of the folder beside it.
fn compare(cases: &[(String, Tokenizer, PathBuf)]) -> Result<()> {
    let folders: Vec<&Path> = cases.iter().map(|case| case.2.as_path()).collect();
    let asked = json!({"folders": folders, "texts": texts(), "conversations": conversations()});
    let Some(seen) = python("tokenizer_check.py", [""; 0], Some(&asked)) else {
        return Ok(());
    };
    let mut wrong = 0;
    for (at, (name, tokenizer, _)) in cases.iter().enumerate() {
        let found = differences(tokenizer, &seen[at])?;
        let chats = seen[at]["chats"].as_array().map_or(0, Vec::len);
        let (count, texts) = (found.len(), texts().len());
        eprintln!("{name}: {texts} texts, {chats} conversations, {count} differences");
        for difference in &found {
            eprintln!("  {difference}");
        }
        wrong += found.len();
    }
    assert_eq!(wrong, 0, "differences, printed above");
    Ok(())
}

fn name(folder: &Path) -> String {
    folder.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn tokenizers_of_real_models_and_their_saved_copies_are_those_of_transformers() -> Result<()> {
    let saved = tempfile::tempdir().unwrap();
    let mut cases = Vec::new();
    for folder in folders() {
        let tokenizer = Tokenizer::load(&folder)?;
        let copy = saved.path().join(name(&folder));
        std::fs::create_dir(&copy).unwrap();
        tokenizer.save(&copy)?;
        let again = Tokenizer::load(&copy)?;
        cases.push((format!("{}, saved", name(&folder)), again, copy));
        cases.push((name(&folder), tokenizer, folder));
    }
    if cases.is_empty() {
        return Ok(());
    }
    compare(&cases)
}

#[test]
fn tokenizers_of_real_models_in_gguf_are_those_of_their_folders() -> Result<()> {
    let (folders, out) = (folders(), tempfile::tempdir().unwrap());
    if folders.is_empty() {
        return Ok(());
    }
    let args = std::iter::once(out.path()).chain(folders.iter().map(PathBuf::as_path));
    let Some(files) = python("tokenizers_gguf.py", args, None) else {
        return Ok(());
    };
    let files = files.as_array().expect("a file for every folder").iter();
    let cases = files.zip(&folders).map(|(file, folder)| {
        let file = Path::new(file.as_str().expect("a path"));
        Ok((name(file), Tokenizer::load(file)?, folder.clone()))
    });
    compare(&cases.collect::<Result<Vec<_>>>()?)
}
