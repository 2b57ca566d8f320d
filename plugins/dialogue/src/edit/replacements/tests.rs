use super::*;
use proptest::prelude::*;

fn replacement(find: &str, replace: &str, occurrence: u32) -> Replacement {
    Replacement {
        find: find.to_owned(),
        replace: replace.to_owned(),
        occurrence: Some(occurrence),
    }
}

fn problem(response: &str, replacements: &[Replacement]) -> Problem {
    apply(response, replacements).expect_err("a problem")
}

#[test]
fn replacements_refer_to_the_response_as_it_was_given() {
    let swap = [replacement("cat", "dog", 0), replacement("dog", "cat", 0)];
    assert_eq!(
        apply("a dog, a cat\r\n", &swap).unwrap(),
        "a cat, a dog\r\n"
    );
    assert_eq!(
        apply("ab", &[replacement("b", "", 0), replacement("a", "x", 0)]).unwrap(),
        "x"
    );
}

#[test]
fn an_occurrence_is_counted_from_the_left() {
    let text = "one two one two one";
    assert_eq!(
        apply(text, &[replacement("one", "1", 2)]).unwrap(),
        "one two 1 two one"
    );
    let found = problem(text, &[replacement("one", "1", 4)]);
    assert_eq!(found.kind, ProblemKind::NotFound);
    assert!(
        found.tell[0].contains("no occurrence 4; there are 3"),
        "{found:?}"
    );
}

#[test]
fn a_passage_that_is_there_twice_is_ambiguous_also_where_it_overlaps_itself() {
    for text in ["one two one", "oneone"] {
        assert_eq!(
            problem(text, &[replacement("one", "1", 0)]).kind,
            ProblemKind::Ambiguous
        );
    }
    assert_eq!(
        problem("ananas", &[replacement("ana", "x", 0)]).kind,
        ProblemKind::Ambiguous
    );
}

#[test]
fn every_replacement_that_does_not_fit_is_told() {
    let found = problem(
        "He said “no”.",
        &[
            replacement("said \"no\"", "said \"yes\"", 0),
            replacement("", "x", 0),
            replacement("she", "he", 1),
        ],
    );
    assert_eq!(found.kind, ProblemKind::NotFound);
    assert_eq!(found.tell.len(), 3);
    assert!(
        found.tell[0].contains("with other quotes, dashes or white space"),
        "{found:?}"
    );
    assert!(found.tell[1].contains("is empty"), "{found:?}");
    assert!(!found.tell[2].contains("with other quotes"), "{found:?}");
    assert_eq!(found.reason.matches("; ").count(), 2);
}

#[test]
fn replacements_that_touch_each_other_are_refused() {
    let found = problem(
        "a b c",
        &[replacement("b c", "x", 0), replacement("a b", "y", 0)],
    );
    assert_eq!(found.kind, ProblemKind::Overlap);
    assert!(found.tell[0].contains("Replacements 2 and 1"), "{found:?}");
    assert_eq!(
        problem("a", &[replacement("a", "x", 0), replacement("a", "x", 1)]).kind,
        ProblemKind::Overlap
    );
    // Side by side is no overlap.
    assert_eq!(
        apply("ab", &[replacement("a", "1", 0), replacement("b", "2", 0)]).unwrap(),
        "12"
    );
}

#[test]
fn an_empty_response_is_filled_by_an_empty_passage() {
    assert_eq!(apply("", &[replacement("", "hello", 0)]).unwrap(), "hello");
    let twice = [replacement("", "a", 0), replacement("", "b", 0)];
    assert_eq!(problem("", &twice).kind, ProblemKind::Overlap);
}

#[test]
fn a_megabyte_is_searched() {
    let text = "ab".repeat(500_000);
    let half = "ab".repeat(250_000);
    assert_eq!(
        problem(&text, &[replacement(&half, "", 0)]).kind,
        ProblemKind::Ambiguous
    );
    let edited = apply(&text, &[replacement("ab", "x", 500_000)]).unwrap();
    assert!(edited.ends_with("abx"));
}

proptest! {
    #[test]
    fn the_replacements_of_a_difference_make_the_edit(
        response in "([ab]| |\r\n|é|\\PC){0,30}", edited in "([ab]| |\r\n|é|\\PC){0,30}",
    ) {
        let list = of_difference(&response, &edited);
        prop_assert_eq!(list.is_empty(), response == edited);
        prop_assert_eq!(apply(&response, &list).unwrap(), edited);
    }

    #[test]
    fn any_replacements_are_applied_or_refused(
        response in "([ab]|é|\\PC){0,20}",
        list in proptest::collection::vec(("([ab]|é){0,3}", "\\PC{0,3}", 0_u32..4), 0..5),
    ) {
        let list: Vec<Replacement> = list.iter().map(|(find, replace, n)| replacement(find, replace, *n)).collect();
        if let Err(found) = apply(&response, &list) {
            prop_assert!(!found.tell.is_empty());
        }
    }
}
