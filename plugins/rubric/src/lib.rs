//! The ground truth of the sandbox: a small instruction language, a hidden rubric, its repairs and its demonstrations.
//!
//! A [`Prompt`] asks for one to four points on a topic in a tone, and may fix the first and the last noun:
//!
//! ```text
//! write two kind points about the sea from shell to harbor
//! first the gentle shell greets a warm wave . second the tender sailor finds a soft harbor .
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
pub use prompt::{MAX_POINTS, Prompt, PromptError};
pub use repair::repair;
pub use vocabulary::{Tone, Topic, vocabulary};
