use super::*;
use proptest::prelude::*;

mod people;

const RESPONSE: &str =
    "The capital of France is Lyon, a city on the Seine. It has been the capital for a long time.";

fn checks(prompt: &str, response: &str, edited: &str) -> Vec<Check> {
    examine(prompt, response, edited, &Limits::default())
        .findings
        .into_iter()
        .map(|finding| finding.check)
        .collect()
}

#[test]
fn one_word_changed_is_minimal() {
    let edited = RESPONSE.replace("Lyon", "Paris");
    let examination = examine("Capital?", RESPONSE, &edited, &Limits::default());
    assert_eq!(examination.findings, []);
    let figures = examination.figures;
    assert_eq!(figures.words, [23, 23]);
    assert_eq!(figures.changed_words, 2.0 / 46.0);
    assert_eq!(figures.kept_words, 22.0 / 23.0);
    assert_eq!(
        (figures.touched_words, figures.stretches, figures.noise),
        (1, 1, 0)
    );
}

#[test]
fn a_rewrite_is_told_with_its_figures() {
    let edited = "Paris has served as the seat of the French government since the late tenth century, when Hugh Capet chose it.";
    let examination = examine("Capital?", RESPONSE, edited, &Limits::default());
    let found: Vec<Check> = examination.findings.iter().map(|f| f.check).collect();
    assert_eq!(
        found,
        [
            Check::ChangedWords,
            Check::ChangedCharacters,
            Check::KeptWords
        ]
    );
    let words = &examination.findings[0];
    assert_eq!(words.figure, examination.figures.changed_words);
    assert_eq!(words.limit, 0.4);
    assert!(
        words.sentence.contains("at most 40% may change"),
        "{words:?}"
    );
}

#[test]
fn a_finding_is_counted_under_the_name_it_is_written_with() {
    for check in [Check::ChangedWords, Check::NoiseOnly, Check::PromptEcho] {
        assert_eq!(
            finegrain_sdk::serde_json::to_value(check).unwrap(),
            check.name()
        );
    }
}

#[test]
fn a_short_answer_may_change_as_a_whole() {
    assert_eq!(checks("Capital?", "Lyon.", "Paris."), []);
    assert_eq!(checks("In Russian?", "privet", "привет"), []);
    let strict = Limits {
        free_words: 0,
        ..Limits::default()
    };
    let examination = examine("Capital?", "Lyon", "Paris", &strict);
    assert_eq!(examination.findings[0].check, Check::ChangedWords);
}

#[test]
fn edits_that_grow_or_shrink_much_are_found() {
    let longer = format!(
        "{RESPONSE} {}",
        "And more is said about it here. ".repeat(3)
    );
    assert!(checks("p", RESPONSE, longer.trim()).contains(&Check::Longer));
    assert!(checks("p", RESPONSE, "The capital of France is Lyon").contains(&Check::Shorter));
}

#[test]
fn another_script_is_found() {
    let edited = "Столица Франции, Париж, стоит на Сене и остаётся столицей уже давно.";
    assert!(checks("p", RESPONSE, edited).contains(&Check::Script));
}

#[test]
fn typography_alone_is_found() {
    let response = "He said \"it's 5-6 km\" ... and then he rode home to see how his old mother did, and left.";
    let edited = "He said “it’s 5–6\u{a0}km” … and then he rode home to see how his old mother did, and left.";
    assert_eq!(checks("p", response, edited), [Check::NoiseOnly]);
    let figures = examine("p", response, edited, &Limits::default()).figures;
    assert_eq!((figures.stretches, figures.noise, figures.gaps), (3, 3, 1));
    // Beside a change that is none, it is a figure.
    let figures = examine(
        "p",
        response,
        &edited.replace("left", "went"),
        &Limits::default(),
    )
    .figures;
    assert_eq!((figures.stretches, figures.noise), (4, 3));
    assert_eq!(checks("p", response, &edited.replace("left", "went")), []);
    // Lines broken otherwise are white space, too.
    assert_eq!(checks("p", "a b c", "a b\nc"), [Check::NoiseOnly]);
}

#[test]
fn switches_find_what_they_are_named_for() {
    let prompt = "What is the capital of France, please?";
    let with = |edited: String| checks(prompt, RESPONSE, &edited);
    let edited = RESPONSE.replace("Lyon", "Paris");
    assert_eq!(
        with(format!("{edited}\n\nI changed the city.")),
        [Check::Commentary]
    );
    assert_eq!(with(format!("\"{edited}\"")), [Check::Wrapping]);
    assert_eq!(with(format!("{edited}\n")), [Check::WhiteSpace]);
    assert!(with(format!("{prompt} {edited}")).contains(&Check::PromptEcho));
    let all = Limits {
        allow_commentary: true,
        allow_wrapping: true,
        allow_white_space: true,
        allow_prompt_echo: true,
        allow_noise_only: true,
        ..Limits::default()
    };
    let edited = format!("\"{edited}\n\nNote: new\" ");
    assert_eq!(examine(prompt, RESPONSE, &edited, &all).findings, []);
}

#[test]
fn a_response_without_words_has_figures() {
    let figures = examine("p", "", "a b c d e", &Limits::default()).figures;
    assert_eq!(figures.length_ratio, None);
    assert_eq!((figures.kept_words, figures.changed_words), (1.0, 1.0));
    let examination = examine("", "", "", &Limits::default());
    assert_eq!(examination.figures.changed_words, 0.0);
}

#[test]
fn texts_of_a_megabyte_are_examined() {
    let word = |n: usize, salt: usize| format!("w{} ", (n * 7919 + salt) % 65_537);
    let response: String = (0..160_000).map(|n| word(n, 0)).collect();
    let other: String = (0..160_000).map(|n| word(n * n, 31)).collect();
    assert!(response.len() > 900_000);
    assert!(checks("p", &response, &other).contains(&Check::ChangedWords));
    let near = response.replace("w77 ", "w78 ");
    assert_eq!(checks("p", &response, &near), []);
    // A few words against very many, a few characters against very many, on either side.
    for few in ["a b c d e f g h i j", "abcdefgh", ""] {
        let word: String = "xyz".chars().cycle().take(1_000_000).collect();
        for many in [other.as_str(), word.as_str()] {
            for (response, edited) in [(few, many), (many, few)] {
                let figures = examine("p", response, edited, &Limits::default()).figures;
                assert!(figures.changed_words > 0.9, "{figures:?}");
            }
        }
    }
    let letters = "ab".repeat(500_000);
    assert!(checks("p", &letters, &letters.replace('a', "c ")).contains(&Check::ChangedWords));
}

proptest! {
    #[test]
    fn figures_of_any_texts_are_shares(
        prompt in "\\PC{0,30}", response in "([a-c]|[ \r\n\"“—-]|\\PC){0,60}", edited in "([a-c]|[ \r\n\"“—-]|\\PC){0,60}",
    ) {
        let Examination { figures, findings } = examine(&prompt, &response, &edited, &Limits::default());
        for share in [figures.changed_words, figures.changed_characters, figures.kept_words, figures.script_change] {
            prop_assert!((0.0..=1.0 + 1e-12).contains(&share), "{figures:?}");
        }
        prop_assert!(figures.noise <= figures.stretches);
        prop_assert_eq!(figures.words[0] + figures.words[1] == 0 || figures.stretches == 0, figures.changed_words == 0.0);
        for finding in findings {
            prop_assert!(finding.figure != finding.limit && finding.sentence.ends_with('.'), "{finding:?}");
        }
    }
}
