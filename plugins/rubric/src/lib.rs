//! The ground truth of the sandbox: a small instruction language, a hidden rubric, its repairs and its demonstrations.
//!
//! A [`Prompt`] asks for one to three points, with verbs of a manner, a subject and an object, each of a topic and in a
//! tone:
//!
//! ```text
//! write two points of care from the kind sea to the grand city
//! first the gentle wave guards a mighty bridge . second the tender sailor greets a proud tram .
//! ```
//!
//! [`assess`] scores any text against a prompt and says which words are defective; [`repair`] changes those words and
//! no other; [`demonstrate`] writes responses with a given rate of defects. The crate draws no random numbers of its
//! own: callers pass draws or a key. One word is one token of the sandbox's tokenizer, so a defect's word range is a
//! range of tokens, and the range that starts at the number of words is the end-of-sequence token.

mod alignment;
mod assess;
mod demonstrate;
mod grammar;
mod prompt;
mod repair;
mod vocabulary;

pub use assess::{Assessment, Defect, DefectKind, assess, defect_mask};
pub use demonstrate::demonstrate;
pub use grammar::SLOTS_PER_POINT;
pub use prompt::{MAX_POINTS, Phrase, Prompt, PromptError};
pub use repair::repair;
pub use vocabulary::{Manner, Tone, Topic, vocabulary};
