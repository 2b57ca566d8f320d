//! Format `text`: the whole edited response, between marks where the template asks for them, else bare.

use super::{Answer, Marks, Notes};
use crate::problem::{Problem, ProblemKind};
use crate::refusal;
use crate::wrappers::{LANGUAGES, Wrapper, without_fence, without_heading};

/// An answer with marks: both of them exactly once, or the word for "no edit" alone, or a refusal. One line break behind
/// the first mark and one in front of the last are no part of the response. Text outside of the marks is taken off, and
/// reported.
pub(super) fn marked(
    marks: &Marks,
    response: &str,
    answer: &str,
    notes: &mut Notes,
) -> Result<Answer, Problem> {
    if answer.trim() == marks.unchanged {
        return Ok(Answer::Unchanged);
    }
    let wrong = |reason: &str| {
        Err(Problem::new(
            ProblemKind::Marks,
            reason,
            format!(
                "The edited response must stand between {} and {}, each of them exactly once.",
                marks.open, marks.close
            ),
        ))
    };
    let counts = [&marks.open, &marks.close].map(|tag| answer.matches(tag.as_str()).count());
    match counts {
        [1, 1] => {}
        [0, 0] if refusal::refuses(answer) => return Ok(Answer::Refused(answer.to_owned())),
        [0, 0] => return wrong("no marks around an edited response"),
        [open, close] => {
            return wrong(&format!(
                "{open} opening and {close} closing marks, where one of each belongs"
            ));
        }
    }
    let Some((before, rest)) = answer.split_once(&marks.open) else {
        return wrong("no opening mark");
    };
    let Some((inside, after)) = rest.split_once(&marks.close) else {
        return wrong("the closing mark stands in front of the opening one");
    };
    let says_unchanged = |text: &str| text.lines().any(|line| line.trim() == marks.unchanged);
    if inside.trim() == marks.unchanged {
        return Ok(Answer::Unchanged);
    }
    if says_unchanged(before) || says_unchanged(after) {
        return Err(Problem::new(
            ProblemKind::Contradiction,
            format!("an edited response, and {} beside it", marks.unchanged),
            format!(
                "You gave an edited response and said {}. Give one of the two.",
                marks.unchanged
            ),
        ));
    }
    if !(before.trim().is_empty() && after.trim().is_empty()) {
        notes.stripped.push(Wrapper::Outside);
    }
    let line_break = if inside.starts_with("\r\n") {
        "\r\n"
    } else {
        "\n"
    };
    let inside = inside.strip_prefix(line_break).unwrap_or(inside);
    let inside = inside.strip_suffix(line_break).unwrap_or(inside);
    Ok(Answer::Whole(unwrapped(response, inside, notes)))
}

/// A bare answer: the edited response, the word for "no edit", or a refusal to edit.
pub(super) fn bare(marks: &Marks, response: &str, answer: &str, notes: &mut Notes) -> Answer {
    if answer.trim() == marks.unchanged {
        return Answer::Unchanged;
    }
    if refusal::refuses_to_edit(answer) && !refusal::refuses_to_edit(response) {
        return Answer::Refused(answer.to_owned());
    }
    Answer::Whole(unwrapped(response, answer, notes))
}

/// An edited response without a heading and a code fence that the response does not have.
fn unwrapped(response: &str, edited: &str, notes: &mut Notes) -> String {
    let mut edited = edited;
    if without_heading(response).is_none()
        && let Some(rest) = without_heading(edited)
    {
        notes.stripped.push(Wrapper::Heading);
        edited = rest;
    }
    if without_fence(response, &LANGUAGES).is_none()
        && let Some(inside) = without_fence(edited, &LANGUAGES)
    {
        notes.stripped.push(Wrapper::CodeFence);
        edited = inside;
    }
    edited.to_owned()
}
