//! What a reason says, without its figures: what refusals, failures and rejections are counted by.

use crate::inspect::line;

/// The longest name that is counted by, in characters.
const LONGEST: usize = 40;

/// A refusal's category, a failure's kind, or a problem's kind: what stands in front of the first colon. Of an edit that is not
/// minimal, also the first check that it did not pass.
pub fn class(reason: &str) -> String {
    let (kind, rest) = reason.split_once(':').unwrap_or((reason, ""));
    let kind = kind.trim();
    let check = rest.split_whitespace().next();
    let name = match check {
        Some(check) if kind == "not-minimal" => format!("{kind}: {}", check.trim_end_matches(',')),
        _ => kind.to_owned(),
    };
    line(&name, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_without_their_figures() {
        for (reason, expected) in [
            (
                "not-minimal: changed-words 0.710 (limit 0.4), longer 2.000 (limit 1.5)",
                "not-minimal: changed-words",
            ),
            (
                "not-minimal: commentary, wrapping",
                "not-minimal: commentary",
            ),
            ("cyber: I cannot help", "cyber"),
            ("in prose: I'm sorry", "in prose"),
            ("json: not JSON", "json"),
            ("unavailable: 503", "unavailable"),
            ("no", "no"),
            ("", ""),
        ] {
            assert_eq!(class(reason), expected);
        }
        assert_eq!(class(&"a".repeat(60)).chars().count(), LONGEST);
        assert_eq!(class("cy\u{1b}[2Jber: no"), "cy\u{fffd}[2Jber");
    }
}
