mod question;

use super::*;
use crate::minimality::{Check, Limits};
use finegrain_sdk::serde_json;
use proptest::prelude::*;

const PROMPT: &str = "What is the capital of France?";
const RESPONSE: &str = "The capital of France is Lyon, a city on the Seine.";
const EDITED: &str = "The capital of France is Paris, a city on the Seine.";

/// The prompt of a model that answers bare.
const BARE: &str = "{# finegrain template edit-text, version bare #}
{% block system %}Edit.{% endblock %}
{% block user %}{{ prompt }} {{ response }} or {{ unchanged }}{% endblock %}
{% block again %}{{ complaints }}{% endblock %}";

fn dialogue(format: AnswerFormat) -> EditDialogue {
    EditDialogue::new(&EditorOptions {
        format,
        ..EditorOptions::default()
    })
    .unwrap()
}

fn bare() -> EditDialogue {
    let mut dialogue = dialogue(AnswerFormat::Text);
    dialogue.template = Template::parse(TemplateKind::EditText, "bare", BARE).unwrap();
    dialogue
}

/// Limits that let everything pass.
fn anything() -> Limits {
    Limits {
        free_words: u32::MAX,
        allow_noise_only: true,
        allow_commentary: true,
        allow_wrapping: true,
        allow_white_space: true,
        allow_prompt_echo: true,
        ..Limits::default()
    }
}

fn between(inside: &str) -> String {
    let marks = Marks::of(PROMPT, RESPONSE);
    format!("{}{inside}{}", marks.open, marks.close)
}

fn read(dialogue: &EditDialogue, answer: &str) -> Reading {
    dialogue.read(PROMPT, RESPONSE, answer)
}

fn kind(dialogue: &EditDialogue, answer: &str) -> ProblemKind {
    match read(dialogue, answer).outcome {
        Outcome::Problem(problem) => problem.kind,
        other => panic!("{other:?} and no problem from {answer}"),
    }
}

#[test]
fn questions_hold_the_row_and_say_how_to_answer() {
    let text = dialogue(AnswerFormat::Text);
    let question = text.ask(PROMPT, RESPONSE).unwrap();
    let marks = Marks::of(PROMPT, RESPONSE);
    for part in [PROMPT, RESPONSE, &marks.open, &marks.close, "UNCHANGED"] {
        assert!(question.user.contains(part), "{part} in {}", question.user);
    }
    assert!(question.system.contains("as few changes as possible"));
    assert!(question.user.starts_with("The instruction:\n<instruction-"));
    assert_eq!(text.ask(PROMPT, RESPONSE).unwrap(), question);
    assert_eq!(text.schema(), None);
    assert!(text.files().is_empty());
}

#[test]
fn an_answer_that_obeys_holds_to_the_schema() {
    for format in [AnswerFormat::Json, AnswerFormat::Replacements] {
        let dialogue = dialogue(format);
        let schema = jsonschema::validator_for(&dialogue.schema().unwrap()).unwrap();
        for edited in [None, Some(EDITED), Some("The capital is Paris.")] {
            let answer = dialogue.answer(PROMPT, RESPONSE, edited);
            let answer: Json = serde_json::from_str(&answer).unwrap();
            assert!(schema.is_valid(&answer), "{answer}");
        }
        assert!(!schema.is_valid(&serde_json::json!({"reason": "x"})));
    }
}

#[test]
fn a_text_between_marks_is_the_edit() {
    let text = dialogue(AnswerFormat::Text);
    for answer in [
        between(EDITED),
        between(&format!("\n{EDITED}\n")),
        between(&format!("\r\n{EDITED}\r\n")),
        format!("\n{}\n", between(EDITED)),
    ] {
        let reading = read(&text, &answer);
        assert_eq!(reading.outcome, Outcome::Edited(EDITED.to_owned()));
        assert_eq!(reading.notes, Notes::default());
        assert!(reading.examination.unwrap().findings.is_empty());
    }
}

#[test]
fn what_is_put_around_an_edit_is_taken_off_and_noted() {
    let text = dialogue(AnswerFormat::Text);
    let cases = [
        (
            format!("<think>Lyon?</think>\n{}", between(EDITED)),
            Wrapper::Thoughts,
        ),
        (
            format!("Lyon is wrong.\n{}", between(EDITED)),
            Wrapper::Outside,
        ),
        (
            between(&format!("Here's the edited response:\n\n{EDITED}")),
            Wrapper::Heading,
        ),
        (
            between(&format!("\n```\n{EDITED}\n```\n")),
            Wrapper::CodeFence,
        ),
    ];
    for (answer, wrapper) in cases {
        let reading = read(&text, &answer);
        assert_eq!(
            reading.outcome,
            Outcome::Edited(EDITED.to_owned()),
            "{answer}"
        );
        assert_eq!(reading.notes.stripped, [wrapper]);
    }
    // A fence that the response has is its own.
    let code = format!("```\n{RESPONSE}\n```");
    let edited = format!("```\n{EDITED}\n```");
    let answer = text.answer(PROMPT, &code, Some(&edited));
    assert_eq!(
        text.read(PROMPT, &code, &answer).outcome,
        Outcome::Edited(edited)
    );
}

#[test]
fn what_is_not_in_the_list_is_a_problem() {
    let text = dialogue(AnswerFormat::Text);
    assert_eq!(kind(&text, EDITED), ProblemKind::Marks);
    assert_eq!(kind(&text, &between(EDITED).repeat(2)), ProblemKind::Marks);
    let marks = Marks::of(PROMPT, RESPONSE);
    let turned = format!("{}{EDITED}{}", marks.close, marks.open);
    assert_eq!(kind(&text, &turned), ProblemKind::Marks);
    let cut = format!("{}{EDITED}", marks.open);
    assert_eq!(kind(&text, &cut), ProblemKind::Marks);
    assert_eq!(kind(&text, " \n"), ProblemKind::Empty);
    assert_eq!(kind(&text, &between("\n \n")), ProblemKind::Empty);
    assert_eq!(kind(&text, "<think>hm"), ProblemKind::Thoughts);
    assert_eq!(
        kind(&text, &format!("UNCHANGED\n{}", between(EDITED))),
        ProblemKind::Contradiction
    );
    let tagged = between(&format!("<response-{}>\n{EDITED}", marks.mark));
    assert_eq!(kind(&text, &tagged), ProblemKind::Marks);
    let commented = between(&format!("Here is the corrected sentence:\n{EDITED}"));
    let reading = read(&text, &commented);
    assert!(matches!(reading.outcome, Outcome::Problem(_)));
    let findings = reading.examination.unwrap().findings;
    assert!(
        findings
            .iter()
            .any(|finding| finding.check == Check::Commentary)
    );
}

#[test]
fn unchanged_is_said_by_a_word_or_by_the_same_text() {
    let text = dialogue(AnswerFormat::Text);
    for answer in ["UNCHANGED\n", &between("UNCHANGED"), &between(RESPONSE)] {
        assert_eq!(read(&text, answer).outcome, Outcome::Unchanged, "{answer}");
    }
    // Where the row speaks of the word, another one says it.
    let response = "The word is UNCHANGED.";
    let answer = text.answer(PROMPT, response, None);
    assert!(answer.starts_with("UNCHANGED-"), "{answer}");
    assert!(text.ask(PROMPT, response).unwrap().user.contains(&answer));
    assert_eq!(
        text.read(PROMPT, response, &answer).outcome,
        Outcome::Unchanged
    );
    let Outcome::Problem(problem) = text.read(PROMPT, response, "UNCHANGED").outcome else {
        panic!("read as unchanged");
    };
    assert_eq!(problem.kind, ProblemKind::Marks);
}

#[test]
fn a_refusal_in_prose_is_one_and_an_edit_into_a_refusal_is_none() {
    let refusal = "I'm sorry, but I can't help with editing this.";
    for format in [
        AnswerFormat::Text,
        AnswerFormat::Json,
        AnswerFormat::Replacements,
    ] {
        assert_eq!(
            read(&dialogue(format), refusal).outcome,
            Outcome::Refused(refusal.to_owned())
        );
    }
    assert_eq!(
        read(&bare(), refusal).outcome,
        Outcome::Refused(refusal.to_owned())
    );
    let (harmful, harmless) = ("Sure, do it so.", "I can't help with that.");
    for dialogue in [
        dialogue(AnswerFormat::Text),
        dialogue(AnswerFormat::Json),
        bare(),
    ] {
        let mut dialogue = dialogue;
        dialogue.options.limits = anything();
        let answer = dialogue.answer(PROMPT, harmful, Some(harmless));
        assert_eq!(
            dialogue.read(PROMPT, harmful, &answer).outcome,
            Outcome::Edited(harmless.to_owned())
        );
    }
}

#[test]
fn a_bare_answer_is_the_edit() {
    let bare = bare();
    assert_eq!(
        read(&bare, EDITED).outcome,
        Outcome::Edited(EDITED.to_owned())
    );
    assert_eq!(read(&bare, "UNCHANGED").outcome, Outcome::Unchanged);
    let reading = read(&bare, &format!("Edited response:\n{EDITED}\n"));
    assert_eq!(reading.outcome, Outcome::Edited(EDITED.to_owned()));
    assert_eq!(reading.notes.stripped, [Wrapper::Heading]);
    assert!(reading.notes.restored.ends);
    // Thoughts of the response's own stay.
    let (response, edited) = ("<think>a</think> b c d", "<think>a</think> b c e");
    assert_eq!(
        bare.read(PROMPT, response, edited).outcome,
        Outcome::Edited(edited.to_owned())
    );
}

#[test]
fn json_says_edit_reason_and_unchanged() {
    let json = dialogue(AnswerFormat::Json);
    let whole = format!(r#"{{"reason": "wrong city", "unchanged": false, "edited": {EDITED:?}}}"#);
    let reading = read(&json, &whole);
    assert_eq!(reading.outcome, Outcome::Edited(EDITED.to_owned()));
    assert_eq!(reading.notes.reason.as_deref(), Some("wrong city"));
    let reading = read(&json, &format!("```json\n{whole}\n```"));
    assert_eq!(reading.notes.stripped, [Wrapper::CodeFence]);
    assert_eq!(reading.outcome, Outcome::Edited(EDITED.to_owned()));
    let reading = read(&json, &format!(r#"{{"edited": {EDITED:?}}}"#));
    assert_eq!(reading.outcome, Outcome::Edited(EDITED.to_owned()));
    for answer in [
        r#"{"unchanged": true}"#,
        r#"{"reason": "", "unchanged": true, "edited": ""}"#,
        &format!(r#"{{"unchanged": true, "edited": {RESPONSE:?}}}"#),
    ] {
        assert_eq!(read(&json, answer).outcome, Outcome::Unchanged, "{answer}");
    }
}

#[test]
fn json_that_is_another_one_is_a_problem() {
    let json = dialogue(AnswerFormat::Json);
    for answer in [
        "Paris",
        "{}",
        "[]",
        r#"{"unchanged": false}"#,
        r#"{"edited": 3}"#,
        r#"{"edited": "a", "edited": "b"}"#,
        r#"{"edited": "a", "note": "b"}"#,
        r#"{"edited": "\ud83d"}"#,
        r#"{"edited": "a"} and more"#,
        r#"{"edited": "a"#,
    ] {
        assert_eq!(kind(&json, answer), ProblemKind::Json, "{answer}");
    }
    assert_eq!(
        kind(
            &json,
            &format!(r#"{{"unchanged": true, "edited": {EDITED:?}}}"#)
        ),
        ProblemKind::Contradiction
    );
    assert_eq!(
        kind(&json, r#"{"unchanged": false, "edited": ""}"#),
        ProblemKind::Empty
    );
}

#[test]
fn replacements_are_applied_and_told_where_they_do_not_fit() {
    let replacements = dialogue(AnswerFormat::Replacements);
    for answer in [
        r#"{"reason": "wrong city", "replacements": [{"find": "Lyon", "replace": "Paris", "occurrence": 0}]}"#,
        r#"[{"find": "Lyon", "replace": "Paris"}]"#,
        "```json\n[{\"find\": \"Lyon\", \"replace\": \"Paris\"}]\n```",
    ] {
        assert_eq!(
            read(&replacements, answer).outcome,
            Outcome::Edited(EDITED.to_owned()),
            "{answer}"
        );
    }
    assert_eq!(
        read(&replacements, r#"{"replacements": []}"#).outcome,
        Outcome::Unchanged
    );
    let wrong = r#"[{"find": "lyon", "replace": "Paris"}]"#;
    let Outcome::Problem(problem) = read(&replacements, wrong).outcome else {
        panic!("applied");
    };
    assert_eq!(problem.kind, ProblemKind::NotFound);
    let turn = replacements.again(PROMPT, RESPONSE, &problem).unwrap();
    assert!(
        turn.contains("replacement 1 (\"lyon\") is not in the response"),
        "{turn}"
    );
}

#[test]
fn white_space_is_put_back_only_where_the_option_says_so() {
    let response = format!("\n{RESPONSE}\r\n\r\n");
    let answer = between(EDITED).replace(
        &Marks::of(PROMPT, RESPONSE).mark,
        &Marks::of(PROMPT, &response).mark,
    );
    let mut text = dialogue(AnswerFormat::Text);
    let reading = text.read(PROMPT, &response, &answer);
    assert_eq!(
        reading.outcome,
        Outcome::Edited(format!("\n{EDITED}\r\n\r\n"))
    );
    assert!(reading.notes.restored.ends);
    text.options.restore_white_space = false;
    let reading = text.read(PROMPT, &response, &answer);
    assert_eq!(reading.notes.restored, Restored::default());
    assert_eq!(
        reading.examination.unwrap().findings[0].check,
        Check::WhiteSpace
    );
}

#[test]
fn typography_is_taken_back_only_where_the_option_says_so() {
    let response = format!("\"Well\", he said. {RESPONSE}");
    let edited = format!("“Well”, he said. {EDITED}");
    let mut text = dialogue(AnswerFormat::Text);
    let answer = text.answer(PROMPT, &response, Some(&edited));
    let reading = text.read(PROMPT, &response, &answer);
    assert_eq!(reading.outcome, Outcome::Edited(edited));
    assert_eq!(reading.examination.unwrap().figures.noise, 2);
    text.options.revert_typography = true;
    let reading = text.read(PROMPT, &response, &answer);
    let wanted = format!("\"Well\", he said. {EDITED}");
    assert_eq!(reading.outcome, Outcome::Edited(wanted));
    assert_eq!(reading.notes.restored.typography, 2);
}

#[test]
fn dialogues_may_be_used_by_several_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<EditDialogue>();
    shared::<crate::judge::JudgeDialogue>();
}

#[test]
fn a_second_try_is_told_the_figure_and_the_limit() {
    let text = dialogue(AnswerFormat::Text);
    let rewritten =
        "Paris has been the seat of French government since Hugh Capet chose it long ago.";
    let Outcome::Problem(problem) = read(&text, &between(rewritten)).outcome else {
        panic!("taken as minimal");
    };
    assert_eq!(problem.kind, ProblemKind::NotMinimal);
    let turn = text.again(PROMPT, RESPONSE, &problem).unwrap();
    assert!(
        turn.contains("% of the words; at most 40% may change."),
        "{turn}"
    );
    assert!(turn.contains(&Marks::of(PROMPT, RESPONSE).open));
    let failed = EditOutcome::from(Outcome::Problem(problem));
    assert!(
        matches!(failed, EditOutcome::Rejected(reason) if reason.starts_with("not-minimal: changed-words 0."))
    );
}

#[test]
fn a_megabyte_is_asked_and_read() {
    let response = "one two three four five six\r\n".repeat(40_000);
    let edited = response.replacen("four", "vier", 3);
    for format in [AnswerFormat::Text, AnswerFormat::Json] {
        let dialogue = dialogue(format);
        assert!(dialogue.ask(PROMPT, &response).unwrap().user.len() > response.len());
        let answer = dialogue.answer(PROMPT, &response, Some(&edited));
        assert_eq!(
            dialogue.read(PROMPT, &response, &answer).outcome,
            Outcome::Edited(edited.clone())
        );
    }
}

/// Texts with everything that delimiters and formats are made of.
fn any_text() -> impl Strategy<Value = String> {
    "([a-c ]|UNCHANGED|</?(edited|response|instruction)(-[0-9a-f]{6})?>|[{}\"\\\\`]|```\n|\r\n|\n|\\PC){0,30}"
}

proptest! {
    #[test]
    fn a_text_cannot_hold_the_marks_of_its_question(prompt in any_text(), response in any_text()) {
        let question = dialogue(AnswerFormat::Text).ask(&prompt, &response).unwrap();
        let marks = Marks::of(&prompt, &response);
        // As often as with texts that hold nothing at all.
        let empty = dialogue(AnswerFormat::Text).ask("", "").unwrap();
        let expected = empty.user.matches(&Marks::of("", "").mark).count()
            + usize::from(marks.unchanged.contains(&marks.mark));
        prop_assert_eq!(question.user.matches(&marks.mark).count(), expected);
        for tag in [&marks.open, &marks.close] {
            prop_assert_eq!(question.user.matches(tag.as_str()).count(), 1);
            prop_assert!(!prompt.contains(tag.as_str()) && !response.contains(tag.as_str()));
        }
        prop_assert!(!prompt.contains(&marks.unchanged) && !response.contains(&marks.unchanged));
    }

    #[test]
    fn the_answer_of_a_model_that_obeys_is_read_as_it_was_meant(
        prompt in any_text(), response in any_text(), edited in any_text(),
    ) {
        for format in [AnswerFormat::Text, AnswerFormat::Json, AnswerFormat::Replacements] {
            let mut dialogue = dialogue(format);
            dialogue.options.restore_white_space = false;
            dialogue.options.limits = anything();
            let answer = dialogue.answer(&prompt, &response, None);
            prop_assert_eq!(dialogue.read(&prompt, &response, &answer).outcome, Outcome::Unchanged);
            let answer = dialogue.answer(&prompt, &response, Some(&edited));
            let reading = dialogue.read(&prompt, &response, &answer);
            if !reading.notes.stripped.is_empty() {
                // All of the edit in a fence: that is a wrapper by definition.
                prop_assert_eq!(reading.notes.stripped, [Wrapper::CodeFence]);
            } else if edited == response {
                prop_assert_eq!(reading.outcome, Outcome::Unchanged);
            } else if edited.trim().is_empty() {
                prop_assert!(matches!(reading.outcome, Outcome::Problem(problem) if problem.kind == ProblemKind::Empty));
            } else if edited.contains(&mark(&[&prompt, &response])) || edited.trim() == Marks::of(&prompt, &response).unchanged {
                // The edit is made of marks.
            } else {
                prop_assert_eq!(reading.outcome, Outcome::Edited(edited.clone()));
            }
        }
    }

    #[test]
    fn any_answer_is_read(response in any_text(), answer in any_text()) {
        for dialogue in [dialogue(AnswerFormat::Text), dialogue(AnswerFormat::Json), dialogue(AnswerFormat::Replacements), bare()] {
            let reading = dialogue.read(PROMPT, &response, &answer);
            if let Outcome::Problem(problem) = &reading.outcome {
                prop_assert!(!problem.tell.is_empty() && !problem.reason.is_empty());
                dialogue.again(PROMPT, &response, problem).unwrap();
            }
            prop_assert_eq!(dialogue.read(PROMPT, &response, &answer), reading);
        }
    }
}
