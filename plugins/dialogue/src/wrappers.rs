//! What models put around an answer though nobody asked for it. A short, exact list is taken off, and every piece is
//! reported; what is not in the list stays where it is.

use finegrain_sdk::serde::{Deserialize, Serialize};

/// A piece that was taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(crate = "finegrain_sdk::serde", rename_all = "kebab-case")]
pub enum Wrapper {
    /// `<think>` … `</think>` in front of the answer.
    Thoughts,
    /// A first line of [`HEADINGS`].
    Heading,
    /// A code fence around the whole answer, with no language or one of [`LANGUAGES`].
    CodeFence,
    /// Text outside of the marks, beside an edited response between them.
    Outside,
}

/// First lines that announce an edited response, in lower case.
pub const HEADINGS: [&str; 8] = [
    "here is the edited response:",
    "here's the edited response:",
    "here is the minimally edited response:",
    "here's the minimally edited response:",
    "here is the edited version:",
    "here's the edited version:",
    "the edited response:",
    "edited response:",
];

/// Languages of a code fence that say nothing about the text in it.
pub const LANGUAGES: [&str; 6] = ["", "text", "txt", "plaintext", "markdown", "md"];

/// The answer behind leading thoughts, or `None` where it does not begin with thoughts that end.
pub(crate) fn without_thoughts(answer: &str) -> Option<&str> {
    let rest = answer.trim_start().strip_prefix("<think>")?;
    let (_, answer) = rest.split_once("</think>")?;
    Some(answer.trim_start())
}

/// Whether an answer begins with thoughts that do not end.
pub(crate) fn thinks_on(answer: &str) -> bool {
    answer.trim_start().starts_with("<think>") && !answer.contains("</think>")
}

/// What stands behind a first line that announces an edited response, or `None` where the first line is none.
pub(crate) fn without_heading(text: &str) -> Option<&str> {
    let (first, rest) = text.trim_start().split_once('\n')?;
    let first = first.trim().replace('’', "'").to_lowercase();
    let first = first
        .strip_prefix("**")
        .and_then(|first| first.strip_suffix("**"))
        .unwrap_or(&first);
    HEADINGS
        .contains(&first)
        .then(|| rest.trim_start_matches(['\r', '\n']))
}

/// What stands in a code fence around all of a text, in one of these languages; `None` where there is none, or where the
/// text in it has fences of its own.
pub(crate) fn without_fence<'a>(text: &'a str, languages: &[&str]) -> Option<&'a str> {
    let (language, rest) = text.trim().strip_prefix("```")?.split_once('\n')?;
    if !languages.contains(&language.trim()) {
        return None;
    }
    let inside = rest.strip_suffix("```")?;
    let inside = if inside.is_empty() {
        inside
    } else {
        inside.strip_suffix('\n')?
    };
    let inside = inside.strip_suffix('\r').unwrap_or(inside);
    let fenced = |line: &str| line.trim_start().starts_with("```");
    (!inside.lines().any(fenced)).then_some(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thoughts_are_taken_off_where_they_end() {
        assert_eq!(
            without_thoughts("\n<think>\nhm </think>\n\nyes"),
            Some("yes")
        );
        assert_eq!(without_thoughts("yes <think>hm</think>"), None);
        assert_eq!(without_thoughts("<think>hm"), None);
        assert!(thinks_on("<think>hm"));
        assert!(!thinks_on("<think>hm</think> yes"));
    }

    #[test]
    fn only_headings_of_the_list_are_taken_off() {
        assert_eq!(
            without_heading("**Here’s the edited response:**\n\nHello\n"),
            Some("Hello\n")
        );
        assert_eq!(without_heading("Edited response:\r\n\r\n Hi"), Some(" Hi"));
        assert_eq!(without_heading("Here is the edited letter:\nHello"), None);
        assert_eq!(without_heading("Edited response: Hello"), None);
    }

    #[test]
    fn a_fence_is_taken_off_where_it_holds_everything() {
        let off = |text| without_fence(text, &LANGUAGES);
        assert_eq!(off("```\na\n\nb\n```\n"), Some("a\n\nb"));
        assert_eq!(off("```markdown\r\na\r\n```"), Some("a"));
        assert_eq!(off("```\n```"), Some(""));
        assert_eq!(off("```python\na\n```"), None);
        assert_eq!(off("```\na\n```\nb\n```\nc\n```"), None);
        assert_eq!(off("```\na\n``` and more"), None);
        assert_eq!(off("```"), None);
        assert_eq!(off("a"), None);
    }
}
