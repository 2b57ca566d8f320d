//! A judge: prefers the response whose length is nearer to a target.

use finegrain_sdk::kinds::{Comparisons, Judge, JudgeSink, Verdict};
use finegrain_sdk::schemars::JsonSchema;
use finegrain_sdk::serde::{Deserialize, Serialize};
use finegrain_sdk::{CallContext, Plugin, PluginInfo, Result};

/// The judge.
pub struct MyPlugin {
    options: Options,
}

/// Its options; the comments are what `finegrain plugin info` prints.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", deny_unknown_fields, default)]
#[schemars(crate = "finegrain_sdk::schemars")]
pub struct Options {
    /// The length wished for, in words.
    words: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { words: 50 }
    }
}

impl Plugin for MyPlugin {
    const NAME: &'static str = "my-plugin";
    type Options = Options;

    fn info() -> PluginInfo {
        PluginInfo {
            summary: "prefers the response whose length is nearer to a target".into(),
            ..PluginInfo::default()
        }
    }

    fn new(options: Options) -> Result<Self> {
        Ok(Self { options })
    }
}

impl Judge for MyPlugin {
    fn compare(
        &self,
        comparisons: &Comparisons<'_>,
        sink: &mut dyn JudgeSink,
        context: &CallContext<'_>,
    ) -> Result<()> {
        let both = comparisons.a.iter().zip(comparisons.b.iter());
        for (row, (a, b)) in both.enumerate() {
            context.check_cancelled()?;
            let (a, b) = (
                distance(a, self.options.words),
                distance(b, self.options.words),
            );
            let verdict = match a.cmp(&b) {
                std::cmp::Ordering::Less => Verdict::Preference(0.0),
                std::cmp::Ordering::Equal => Verdict::Tie,
                std::cmp::Ordering::Greater => Verdict::Preference(1.0),
            };
            sink.push(row, verdict, &format!("{a} and {b} words off"))?;
        }
        Ok(())
    }
}

/// How many words a response is away from the target.
fn distance(response: &str, words: usize) -> usize {
    response.split_whitespace().count().abs_diff(words)
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn words_are_counted() {
        assert_eq!(distance("one two  three", 5), 2);
    }
}
