//! An editor: removes spaces at the end of a response.

use finegrain_sdk::kinds::{EditOutcome, EditRequests, EditSink, Editor};
use finegrain_sdk::schemars::JsonSchema;
use finegrain_sdk::serde::{Deserialize, Serialize};
use finegrain_sdk::{CallContext, Plugin, PluginInfo, Result};

/// The editor.
pub struct MyPlugin {
    options: Options,
}

/// Its options; the comments are what `finegrain plugin info` prints.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", deny_unknown_fields, default)]
#[schemars(crate = "finegrain_sdk::schemars")]
pub struct Options {
    /// Spaces at the start are removed as well.
    both_ends: bool,
}

impl Plugin for MyPlugin {
    const NAME: &'static str = "my-plugin";
    type Options = Options;

    fn info() -> PluginInfo {
        PluginInfo {
            summary: "removes spaces at the end of a response".into(),
            ..PluginInfo::default()
        }
    }

    fn new(options: Options) -> Result<Self> {
        Ok(Self { options })
    }
}

impl Editor for MyPlugin {
    fn edit(
        &self,
        requests: &EditRequests<'_>,
        sink: &mut dyn EditSink,
        context: &CallContext<'_>,
    ) -> Result<()> {
        for (row, response) in requests.responses.iter().enumerate() {
            context.check_cancelled()?;
            let edited = trimmed(response, self.options.both_ends);
            let outcome = if edited == response {
                EditOutcome::Unchanged
            } else {
                EditOutcome::Edited(edited.to_owned())
            };
            sink.push(row, outcome)?;
        }
        Ok(())
    }
}

fn trimmed(response: &str, both_ends: bool) -> &str {
    if both_ends {
        response.trim()
    } else {
        response.trim_end()
    }
}

#[cfg(test)]
mod tests {
    use super::trimmed;

    #[test]
    fn spaces_at_the_end_go() {
        assert_eq!(trimmed(" a b ", false), " a b");
        assert_eq!(trimmed(" a b ", true), "a b");
    }
}
