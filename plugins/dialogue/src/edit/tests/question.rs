//! Small models answer with words of the question.

use super::*;

/// A small model gives an example of an answer back as its answer, and the words of one pass as a minimal edit of few words.
#[test]
fn no_question_shows_an_answer_that_could_be_copied() {
    for format in [
        AnswerFormat::Text,
        AnswerFormat::Json,
        AnswerFormat::Replacements,
    ] {
        let question = dialogue(format).ask("2 + 2?", "Five.").unwrap().user;
        for (start, _) in question.match_indices('{') {
            let mut values =
                serde_json::Deserializer::from_str(&question[start..]).into_iter::<Json>();
            assert!(!matches!(values.next(), Some(Ok(_))), "{question}");
        }
        for (start, _) in question.match_indices("<edited-") {
            let line = question[start..].lines().next().unwrap();
            assert!(line.contains("</edited-"), "{question}");
        }
    }
}

/// By its figures such an answer is minimal: a long response, and a few words behind it.
#[test]
fn an_edit_does_not_take_over_the_words_of_its_question() {
    let response = "The sun is a star. ".repeat(20);
    let dialogue = dialogue(AnswerFormat::Json);
    let read = |prompt: &str, edited: String| {
        let answer = serde_json::json!({"reason": "", "unchanged": false, "edited": edited});
        dialogue
            .read(prompt, &response, &answer.to_string())
            .outcome
    };
    let line = "Answer with one JSON object and nothing else.";
    let question = dialogue.ask("Tell.", &response).unwrap().user;
    let line = question.lines().find(|it| it.starts_with(line)).unwrap();
    let Outcome::Problem(problem) = read("Tell.", format!("{response}{line}")) else {
        panic!("a line of the question is no edit")
    };
    assert_eq!(problem.kind, ProblemKind::QuestionEcho);
    assert!(problem.reason.contains(line), "{}", problem.reason);
    // What the prompt says itself may be said again, and short lines may stand anywhere.
    let prompt = format!("Say this:\n{line}");
    let edited = format!("{response}{line}");
    assert!(matches!(read(&prompt, edited), Outcome::Edited(_)));
    let edited = format!("{response}The instruction:");
    assert!(matches!(read("Tell.", edited), Outcome::Edited(_)));
}
