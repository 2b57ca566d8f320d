//! Judge `openai`: comparisons by a model behind OpenAI's chat completions: OpenAI, vLLM, llama.cpp, Ollama, LM Studio.
//!
//! What is asked and how an answer is read stands in `dialogue`, how it is asked and kept in `model-server`, and how a row goes
//! through both in `remote`; docs/model-servers.md and docs/editing-prompts.md describe them.

use finegrain_dialogue::options::JudgeOptions;
use finegrain_model_server::Server;
use finegrain_model_server::options::{OpenAiOptions, ServerOptions};
use finegrain_remote::RemoteJudge;
use finegrain_sdk::info::{Capabilities, PluginInfo, Reference};
use finegrain_sdk::kinds::{Comparisons, Judge, JudgeSink};
use finegrain_sdk::schemars::JsonSchema;
use finegrain_sdk::serde::{Deserialize, Serialize};
use finegrain_sdk::{CallContext, Forecast, Plugin, Result};

/// The options of judge `openai`.
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
    /// How a verdict is asked for.
    #[serde(flatten)]
    pub judge: JudgeOptions,
}

/// The judge `openai`.
#[derive(Clone, Debug)]
pub struct OpenAi(RemoteJudge);

impl Plugin for OpenAi {
    const NAME: &'static str = "openai";
    type Options = Options;

    fn info() -> PluginInfo {
        PluginInfo {
            summary: "comparisons by a model behind OpenAI's chat completions: OpenAI, vLLM, llama.cpp, Ollama, LM Studio".to_owned(),
            description: "Asks which of two responses is better, with a tie allowed, and takes the verdict as JSON or as an anchored last line; anything else is a failure with its reason. Every answer is kept by what was sent alone, and never asked for twice. At a server of your own no key is sent unless api_key_env names a variable; at OpenAI it is OPENAI_API_KEY."
                .to_owned(),
            references: vec![Reference {
                title: "AlpacaFarm: A Simulation Framework for Methods that Learn from Human Feedback, section 3"
                    .to_owned(),
                url: "https://arxiv.org/abs/2305.14387".to_owned(),
            }],
            capabilities: Capabilities {
                deterministic: false,
                network: true,
                ..Capabilities::default()
            },
            examples: vec![
                "[judge]\nuse = \"openai\"\noptions = { model = \"qwen3-8b\", base_url = \"http://127.0.0.1:8080/v1\" }"
                    .to_owned(),
            ],
        }
    }

    fn new(options: Options) -> Result<Self> {
        let server = Server::openai("judge-openai", &options.server, &options.api)?;
        Ok(Self(RemoteJudge::new(server, &options.judge)?))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            files: self.0.files(),
            ..Self::info().capabilities
        }
    }
}

impl Judge for OpenAi {
    fn compare(
        &self,
        comparisons: &Comparisons<'_>,
        sink: &mut dyn JudgeSink,
        context: &CallContext<'_>,
    ) -> Result<()> {
        self.0.compare(comparisons, sink, context)
    }

    fn forecast(
        &self,
        comparisons: &Comparisons<'_>,
        context: &CallContext<'_>,
    ) -> Result<Option<Forecast>> {
        self.0.forecast(comparisons, context)
    }
}

finegrain_sdk::register!(Judge, OpenAi);
finegrain_sdk::export_plugin!();
