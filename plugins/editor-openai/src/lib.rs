//! Editor `openai`: minimal edits by a model behind OpenAI's chat completions: OpenAI, vLLM, llama.cpp, Ollama, LM Studio.
//!
//! What is asked and how an answer is read stands in `dialogue`, how it is asked and kept in `model-server`, and how a row goes
//! through both in `remote`; docs/model-servers.md and docs/editing-prompts.md describe them.

use finegrain_dialogue::options::EditorOptions;
use finegrain_model_server::Server;
use finegrain_model_server::options::{OpenAiOptions, ServerOptions};
use finegrain_remote::RemoteEditor;
use finegrain_sdk::info::{Capabilities, PluginInfo, Reference};
use finegrain_sdk::kinds::{EditRequests, EditSink, Editor};
use finegrain_sdk::schemars::JsonSchema;
use finegrain_sdk::serde::{Deserialize, Serialize};
use finegrain_sdk::{CallContext, Forecast, Plugin, Result};

/// The options of editor `openai`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", deny_unknown_fields, default)]
#[schemars(crate = "finegrain_sdk::schemars")]
pub struct Options {
    /// Which model, where, and how it is asked.
    #[serde(flatten)]
    pub server: ServerOptions,
    /// What the API has of its own.
    #[serde(flatten)]
    pub api: OpenAiOptions,
    /// How an edit is asked for, and what it may change.
    #[serde(flatten)]
    pub edit: EditorOptions,
}

/// The editor `openai`.
#[derive(Clone, Debug)]
pub struct OpenAi(RemoteEditor);

impl Plugin for OpenAi {
    const NAME: &'static str = "openai";
    type Options = Options;

    fn info() -> PluginInfo {
        PluginInfo {
            summary: "minimal edits by a model behind OpenAI's chat completions: OpenAI, vLLM, llama.cpp, Ollama, LM Studio".to_owned(),
            description: "Asks for a minimal edit of each response and takes it as text, JSON or replacements. An answer that is no minimal edit is asked for again with the reason; what is left then is refused, with the reason. Every answer is kept by what was sent alone, and never asked for twice. At a server of your own no key is sent unless api_key_env names a variable; at OpenAI it is OPENAI_API_KEY."
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
                "[editor]\nuse = \"openai\"\noptions = { model = \"qwen3-8b\", base_url = \"http://127.0.0.1:8080/v1\" }"
                    .to_owned(),
            ],
        }
    }

    fn new(options: Options) -> Result<Self> {
        let server = Server::openai("editor-openai", &options.server, &options.api)?;
        Ok(Self(RemoteEditor::new(server, &options.edit)?))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            files: self.0.files(),
            ..Self::info().capabilities
        }
    }
}

impl Editor for OpenAi {
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

finegrain_sdk::register!(Editor, OpenAi);
finegrain_sdk::export_plugin!();
