//! The longest rows that a configuration allows, and the most tokens that go through a model together.

/// The most tokens of a row's two parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) prompt: u64,
    pub(super) response: u64,
}

impl Row {
    pub(super) fn tokens(self) -> u64 {
        self.prompt + self.response
    }
}

/// What is known of the longest rows of the data; tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of a prompt with its template.
    pub prompt: Option<u64>,
    /// Of a response in the data.
    pub response: Option<u64>,
}

impl Limits {
    /// A row out of the data, in a model of `positions`: what is unknown may fill what the model takes.
    pub(super) fn of_data(self, positions: u64) -> Row {
        let (prompt, response) = match (self.prompt, self.response) {
            (Some(prompt), Some(response)) => (prompt, response),
            (Some(prompt), None) => (prompt, positions.saturating_sub(prompt)),
            (None, Some(response)) => (positions.saturating_sub(response), response),
            // Most is read where the prompt is short.
            (None, None) => (1, positions.saturating_sub(1)),
        };
        within(prompt, response, positions)
    }

    /// A row that is sampled: the host refuses a prompt that leaves no room for `new` tokens.
    pub(super) fn of_samples(self, new: u64, positions: u64) -> Row {
        let room = positions.saturating_sub(new);
        let prompt = self.prompt.unwrap_or(room).min(room);
        within(prompt, new, positions)
    }
}

/// A prompt has at least one token, and both fit the model.
fn within(prompt: u64, response: u64, positions: u64) -> Row {
    let prompt = prompt.clamp(1, positions.max(2) - 1);
    Row {
        prompt,
        response: response.clamp(1, (positions.max(2)) - prompt),
    }
}

/// Tokens that go through a model together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MicroBatch {
    /// n: all.
    pub(super) tokens: u64,
    /// m: those that are read, at most.
    pub(super) read: u64,
    /// Of the longest row.
    pub(super) longest: u64,
}

impl MicroBatch {
    /// The largest part of `rows` rows that `train::batching` cuts at a budget: runs of whole units (a row, or the two rows
    /// of a pair) of at most `budget` tokens, a longer unit alone; a budget of 0 takes all. Rows may be shorter than `row`,
    /// so the budget can be met exactly, and prompts may be shorter, so as many tokens are read as all responses have.
    pub(super) fn of(rows: u64, row: Row, rows_of_unit: u64, budget: u64) -> Self {
        let all = rows * row.tokens();
        let tokens = match budget {
            0 => all,
            budget => all.min(budget.max(rows_of_unit * row.tokens())),
        };
        Self {
            tokens,
            read: tokens.min(rows * row.response),
            longest: row.tokens(),
        }
    }
}
