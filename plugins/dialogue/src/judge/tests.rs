use super::*;
use finegrain_sdk::serde_json;
use proptest::prelude::*;

const ROW: [&str; 3] = ["Capital of France?", "Lyon.", "Paris."];

fn dialogue(verdict: VerdictFormat) -> JudgeDialogue {
    JudgeDialogue::new(&JudgeOptions {
        verdict,
        ..JudgeOptions::default()
    })
    .unwrap()
}

fn chosen(dialogue: &JudgeDialogue, answer: &str) -> (Choice, String) {
    let reading = dialogue.read(answer);
    match reading.outcome {
        Outcome::Chosen(choice) => (choice, reading.reason),
        other => panic!("{other:?} from {answer}"),
    }
}

fn problem(dialogue: &JudgeDialogue, answer: &str) -> Problem {
    match dialogue.read(answer).outcome {
        Outcome::Problem(problem) => problem,
        other => panic!("{other:?} from {answer}"),
    }
}

#[test]
fn questions_hold_both_responses_and_say_how_to_answer() {
    let [prompt, a, b] = ROW;
    for (format, wanted) in [
        (VerdictFormat::Json, "one JSON object"),
        (VerdictFormat::Line, "Verdict: tie"),
    ] {
        let dialogue = dialogue(format);
        let question = dialogue.ask(prompt, a, b).unwrap();
        for part in [prompt, a, b, wanted] {
            assert!(question.user.contains(part), "{part} in {}", question.user);
        }
        assert!(question.user.find(a) < question.user.find(b));
        assert!(!question.system.is_empty());
        assert_eq!(dialogue.schema().is_some(), format == VerdictFormat::Json);
        // The other order is another question.
        assert_ne!(dialogue.ask(prompt, b, a).unwrap(), question);
    }
}

#[test]
fn the_same_text_twice_is_a_tie_without_a_question() {
    assert_eq!(JudgeDialogue::settled("x", "x"), Some(Choice::Tie));
    assert_eq!(JudgeDialogue::settled("x", "x "), None);
}

#[test]
fn choices_are_preferences_for_b() {
    assert_eq!(Verdict::from(Choice::A), Verdict::Preference(0.0));
    assert_eq!(Verdict::from(Choice::B), Verdict::Preference(1.0));
    assert_eq!(Verdict::from(Choice::Tie), Verdict::Tie);
}

#[test]
fn json_verdicts_are_read() {
    let json = dialogue(VerdictFormat::Json);
    let answer = r#"{"reason": "Paris is right. ", "verdict": "B"}"#;
    assert_eq!(
        chosen(&json, answer),
        (Choice::B, "Paris is right.".to_owned())
    );
    assert_eq!(
        chosen(&json, "{\n \"verdict\": \"tie\"\n}"),
        (Choice::Tie, String::new())
    );
    let reading = json.read(&format!("<think>A?</think>```json\n{answer}\n```"));
    assert_eq!(reading.outcome, Outcome::Chosen(Choice::B));
    assert_eq!(reading.stripped, [Wrapper::Thoughts, Wrapper::CodeFence]);
}

#[test]
fn an_answer_that_obeys_holds_to_the_schema() {
    let json = dialogue(VerdictFormat::Json);
    let schema = jsonschema::validator_for(&json.schema().unwrap()).unwrap();
    for choice in Choice::ALL {
        let answer: Json = serde_json::from_str(&json.answer(choice, "so")).unwrap();
        assert!(schema.is_valid(&answer), "{answer}");
    }
    assert!(!schema.is_valid(&serde_json::json!({"reason": "so", "verdict": "C"})));
}

#[test]
fn json_without_a_verdict_fails_with_its_reason() {
    let json = dialogue(VerdictFormat::Json);
    for answer in [
        "B",
        "{}",
        r#"{"verdict": "b"}"#,
        r#"{"verdict": "A or B"}"#,
        r#"{"verdict": "A", "verdict": "B"}"#,
        r#"{"verdict": "A", "score": 3}"#,
        r#"{"verdict": "A"} Verdict: B"#,
        r#"{"reason": "cut of"#,
    ] {
        let problem = problem(&json, answer);
        assert_eq!(problem.kind, ProblemKind::Json, "{answer}");
        let verdict = Verdict::from(Outcome::Problem(problem));
        assert!(matches!(verdict, Verdict::Failed(reason) if reason.starts_with("json: ")));
    }
}

#[test]
fn the_last_line_is_the_verdict() {
    let line = dialogue(VerdictFormat::Line);
    assert_eq!(
        chosen(&line, "Paris is the capital.\nSo:\n\nVerdict: B\n"),
        (Choice::B, "Paris is the capital.\nSo:".to_owned())
    );
    for (answer, choice) in [
        ("Verdict: A", Choice::A),
        ("x\r\n**Verdict: tie**\r\n", Choice::Tie),
        ("x\n**verdict:** b.", Choice::B),
        ("Verdict: A\nbecause of this\nVerdict: A", Choice::A),
    ] {
        assert_eq!(chosen(&line, answer).0, choice, "{answer}");
    }
}

#[test]
fn a_verdict_anywhere_else_is_none() {
    let line = dialogue(VerdictFormat::Line);
    for answer in [
        "B",
        "Verdict: B, I think",
        "Verdict: B\nbecause Paris is right",
        "My verdict: B",
        "Verdict: A or B",
        "Verdict:",
        "Verdict: C",
        "So B is probably better",
    ] {
        assert_eq!(
            problem(&line, answer).kind,
            ProblemKind::NoVerdict,
            "{answer}"
        );
    }
    let found = problem(&line, "Verdict: A\nNo, wait.\nVerdict: B");
    assert_eq!(found.kind, ProblemKind::TwoVerdicts);
    assert!(found.reason.contains("A and B"));
}

#[test]
fn what_is_no_answer_is_told_apart() {
    for format in [VerdictFormat::Json, VerdictFormat::Line] {
        let dialogue = dialogue(format);
        assert_eq!(problem(&dialogue, "\n").kind, ProblemKind::Empty);
        assert_eq!(problem(&dialogue, "<think>A").kind, ProblemKind::Thoughts);
        let refusal = "I can't compare responses of this kind.";
        let outcome = dialogue.read(refusal).outcome;
        assert_eq!(outcome, Outcome::Refused(refusal.to_owned()));
        let [prompt, a, b] = ROW;
        let turn = dialogue
            .again(prompt, a, b, &problem(&dialogue, "Both are fine."))
            .unwrap();
        assert!(
            turn.contains("cannot be used") && turn.contains("tie"),
            "{turn}"
        );
    }
}

proptest! {
    #[test]
    fn texts_cannot_hold_the_marks_of_their_question(
        texts in proptest::array::uniform3("([a-f0-9]{0,8}|</?(response-[ab]|instruction)(-[0-9a-f]{6})?>|\n|\\PC){0,20}"),
    ) {
        let [prompt, a, b] = &texts;
        let question = dialogue(VerdictFormat::Json).ask(prompt, a, b).unwrap();
        let mark = mark(&[prompt, a, b]);
        prop_assert_eq!(question.user.matches(&mark).count(), 6);
    }

    #[test]
    fn the_answer_of_a_model_that_obeys_is_read_as_it_was_meant(reason in "([a-z .]|\n|\"|\\PC){0,40}", index in 0..3_usize) {
        let choice = Choice::ALL[index];
        for format in [VerdictFormat::Json, VerdictFormat::Line] {
            let dialogue = dialogue(format);
            let (read, said) = chosen(&dialogue, &dialogue.answer(choice, &reason));
            prop_assert_eq!(read, choice);
            prop_assert_eq!(said, reason.trim());
        }
    }

    #[test]
    fn any_answer_is_read(answer in "(Verdict: |[AB]|tie|[{}\":]|\n|verdict|\\PC){0,30}") {
        for format in [VerdictFormat::Json, VerdictFormat::Line] {
            let dialogue = dialogue(format);
            prop_assert_eq!(dialogue.read(&answer), dialogue.read(&answer));
        }
    }
}
