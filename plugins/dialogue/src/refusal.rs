//! Refusals in prose: only what is certain.
//!
//! Servers say most refusals in a field of their own; a client reports these. What is left are answers that begin with one
//! of a few sentences. They are looked for only where the answer is not in the form that was asked for, because an edited
//! response may well be a refusal itself: "I can't help with that" is a good edit of a harmful response.

/// How a refusal may begin before it comes to the point.
const REGRETS: [&str; 8] = [
    "i'm sorry, but ",
    "i'm sorry. ",
    "i am sorry, but ",
    "sorry, but ",
    "sorry, ",
    "i apologize, but ",
    "i apologise, but ",
    "unfortunately, ",
];

/// What a refusal says.
const REFUSALS: [&str; 19] = [
    "i can't help",
    "i cannot help",
    "i can't assist",
    "i cannot assist",
    "i can't edit",
    "i cannot edit",
    "i won't edit",
    "i will not edit",
    "i can't compare",
    "i cannot compare",
    "i can't comply",
    "i cannot comply",
    "i can't fulfill",
    "i cannot fulfill",
    "i'm not able to",
    "i am not able to",
    "i'm unable to",
    "i am unable to",
    "i must decline",
];

/// What the first sentence of a refusal to edit speaks of.
const EDITING: [&str; 3] = ["edit", "rewrit", "revis"];

/// Whether a text begins by refusing, whatever it refuses. For answers that are not in the form that was asked for.
pub fn refuses(text: &str) -> bool {
    let beginning = beginning(text);
    let point = REGRETS
        .iter()
        .find_map(|regret| beginning.strip_prefix(regret))
        .unwrap_or(&beginning);
    REFUSALS.iter().any(|refusal| point.starts_with(refusal))
}

/// Whether a text begins by refusing to edit. For answers that may be anything: a response that refuses the prompt does
/// not speak of editing.
pub fn refuses_to_edit(text: &str) -> bool {
    let beginning = beginning(text);
    // Not at "Sorry." and the like.
    let sentence = beginning
        .match_indices(['.', '\n'])
        .find(|(at, _)| *at > 20)
        .map_or(&*beginning, |(at, _)| &beginning[..at]);
    refuses(text) && EDITING.iter().any(|word| sentence.contains(word))
}

/// The first 200 characters in lower case, with straight apostrophes.
fn beginning(text: &str) -> String {
    let chars = text.trim_start().chars().take(200);
    chars
        .map(|char| match char {
            '’' => '\'',
            other => other.to_ascii_lowercase(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_known_by_their_beginning() {
        for text in [
            "I can't help with editing this.",
            "I’m sorry, but I can’t assist with that request.",
            "\n Unfortunately, I'm unable to edit responses of this kind.",
            "I must decline.",
        ] {
            assert!(refuses(text), "{text}");
        }
        for text in [
            "",
            "The model said: I can't help with that.",
            "I can help.",
            "Icannot help",
        ] {
            assert!(!refuses(text), "{text}");
        }
    }

    #[test]
    fn a_response_that_refuses_its_prompt_is_no_refusal_to_edit() {
        assert!(refuses_to_edit("I can't help with editing this response."));
        assert!(refuses_to_edit("I'm sorry. I cannot edit that for you."));
        assert!(!refuses_to_edit("I'm sorry, but I can't help with that."));
        assert!(!refuses_to_edit(
            "I can't help with that. You could edit the file yourself."
        ));
        assert!(!refuses_to_edit("Editing is hard. I can't help."));
    }

    #[test]
    fn any_text_can_be_asked_about() {
        assert!(!refuses_to_edit(&"İ’é\u{300}".repeat(100_000)));
    }
}
