//! Editor `claude`: minimal edits by a Claude model, over Anthropic's Messages API.
//!
//! What is asked and how an answer is read stands in `dialogue`, how it is asked and kept in `model-server`, and how a row goes
//! through both in `remote`; docs/model-servers.md and docs/editing-prompts.md describe them.

use finegrain_dialogue::options::EditorOptions;
use finegrain_model_server::Server;
use finegrain_model_server::options::{AnthropicOptions, ServerOptions};
use finegrain_remote::RemoteEditor;
use finegrain_sdk::info::{Capabilities, PluginInfo, Reference};
use finegrain_sdk::kinds::{EditRequests, EditSink, Editor};
use finegrain_sdk::schemars::JsonSchema;
use finegrain_sdk::serde::{Deserialize, Serialize};
use finegrain_sdk::{CallContext, Forecast, Plugin, Result};

/// The options of editor `claude`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", deny_unknown_fields, default)]
#[schemars(crate = "finegrain_sdk::schemars")]
pub struct Options {
    /// Which model, where, and how it is asked.
    #[serde(flatten)]
    pub server: ServerOptions,
    /// What the API has of its own.
    #[serde(flatten)]
    pub api: AnthropicOptions,
    /// How an edit is asked for, and what it may change.
    #[serde(flatten)]
    pub edit: EditorOptions,
}

/// The editor `claude`.
#[derive(Clone, Debug)]
pub struct Claude(RemoteEditor);

impl Plugin for Claude {
    const NAME: &'static str = "claude";
    type Options = Options;

    fn info() -> PluginInfo {
        PluginInfo {
            summary: "minimal edits by a Claude model, over Anthropic's Messages API".to_owned(),
            description: "Asks for a minimal edit of each response and takes it as text, JSON or replacements. An answer that is no minimal edit is asked for again with the reason; what is left then is refused, with the reason. Every answer is kept by what was sent alone, and never asked for twice. The key comes from the environment (ANTHROPIC_API_KEY, or the variable that api_key_env names), never from a configuration."
                .to_owned(),
            references: vec![Reference {
                title: "Aligning Large Language Models via Fine-grained Supervision, section 3.1".to_owned(),
                url: "https://arxiv.org/abs/2406.02756".to_owned(),
            }],
            capabilities: Capabilities {
                deterministic: false,
                network: true,
                ..Capabilities::default()
            },
            examples: vec![
                "[editor]\nuse = \"claude\"\noptions = { model = \"claude-haiku-5-5\", budget_usd = 5.0 }"
                    .to_owned(),
            ],
        }
    }

    fn new(options: Options) -> Result<Self> {
        let server = Server::anthropic("editor-claude", &options.server, &options.api)?;
        Ok(Self(RemoteEditor::new(server, &options.edit)?))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            files: self.0.files(),
            ..Self::info().capabilities
        }
    }
}

impl Editor for Claude {
    fn edit(
        &self,
        requests: &EditRequests<'_>,
        sink: &mut dyn EditSink,
        context: &CallContext<'_>,
    ) -> Result<()> {
        self.0.edit(requests, sink, context)
    }

    fn forecast(
        &self,
        requests: &EditRequests<'_>,
        context: &CallContext<'_>,
    ) -> Result<Option<Forecast>> {
        self.0.forecast(requests, context)
    }
}

finegrain_sdk::register!(Editor, Claude);
finegrain_sdk::export_plugin!();
