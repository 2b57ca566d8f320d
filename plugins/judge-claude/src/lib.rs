//! Judge `claude`: comparisons by a Claude model, over Anthropic's Messages API.
//!
//! What is asked and how an answer is read stands in `dialogue`, how it is asked and kept in `model-server`, and how a row goes
//! through both in `remote`; docs/model-servers.md and docs/editing-prompts.md describe them.

use finegrain_dialogue::options::JudgeOptions;
use finegrain_model_server::Server;
use finegrain_model_server::options::{AnthropicOptions, ServerOptions};
use finegrain_remote::RemoteJudge;
use finegrain_sdk::info::{Capabilities, PluginInfo, Reference};
use finegrain_sdk::kinds::{Comparisons, Judge, JudgeSink};
use finegrain_sdk::schemars::JsonSchema;
use finegrain_sdk::serde::{Deserialize, Serialize};
use finegrain_sdk::{CallContext, Forecast, Plugin, Result};

/// The options of judge `claude`.
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
    /// How a verdict is asked for.
    #[serde(flatten)]
    pub judge: JudgeOptions,
}

/// The judge `claude`.
#[derive(Clone, Debug)]
pub struct Claude(RemoteJudge);

impl Plugin for Claude {
    const NAME: &'static str = "claude";
    type Options = Options;

    fn info() -> PluginInfo {
        PluginInfo {
            summary: "comparisons by a Claude model, over Anthropic's Messages API".to_owned(),
            description: "Asks which of two responses is better, with a tie allowed, and takes the verdict as JSON or as an anchored last line; anything else is a failure with its reason. Every answer is kept by what was sent alone, and never asked for twice. The key comes from the environment (ANTHROPIC_API_KEY, or the variable that api_key_env names), never from a configuration."
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
                "[judge]\nuse = \"claude\"\noptions = { model = \"claude-haiku-5-5\", budget_usd = 5.0 }"
                    .to_owned(),
            ],
        }
    }

    fn new(options: Options) -> Result<Self> {
        let server = Server::anthropic("judge-claude", &options.server, &options.api)?;
        Ok(Self(RemoteJudge::new(server, &options.judge)?))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            files: self.0.files(),
            ..Self::info().capabilities
        }
    }
}

impl Judge for Claude {
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

finegrain_sdk::register!(Judge, Claude);
finegrain_sdk::export_plugin!();
