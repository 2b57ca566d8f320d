//! An editor and a judge as plugins, over either API.

use std::marker::PhantomData;

use finegrain_dialogue::options::{EditorOptions, JudgeOptions};
use finegrain_model_server::options::ServerOptions;
use finegrain_sdk::info::{Capabilities, PluginInfo, Reference};
use finegrain_sdk::kinds::{Comparisons, EditRequests, EditSink, Editor, Judge, JudgeSink};
use finegrain_sdk::schemars::JsonSchema;
use finegrain_sdk::serde::{Deserialize, Serialize};
use finegrain_sdk::{CallContext, Forecast, Plugin, Result};

use crate::api::Api;
use crate::editor::RemoteEditor;
use crate::judge::RemoteJudge;

/// The options of a plugin: of its server, of its API, and of what is asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", deny_unknown_fields, default)]
#[schemars(
    crate = "finegrain_sdk::schemars",
    rename = "Options",
    bound = "A: JsonSchema + Serialize + Default, Q: JsonSchema + Serialize + Default"
)]
pub struct Options<A, Q> {
    /// Which model, where, and how it is asked.
    #[serde(flatten)]
    pub server: ServerOptions,
    /// What the API has of its own.
    #[serde(flatten)]
    pub api: A,
    /// How an edit or a verdict is asked for, and which answers count.
    #[serde(flatten)]
    pub question: Q,
}

/// An editor over an API.
#[derive(Debug)]
pub struct EditorOver<A>(RemoteEditor, PhantomData<A>);

impl<A: Api> Plugin for EditorOver<A> {
    const NAME: &'static str = A::NAME;
    type Options = Options<A::Options, EditorOptions>;

    fn info() -> PluginInfo {
        info::<A>(
            "editor",
            "minimal edits",
            "Asks for a minimal edit of each response and takes it as text, JSON or replacements. An answer that is no minimal edit is asked for again with the reason; what is left then is rejected, with the reason.",
            Reference {
                title: "Aligning Large Language Models via Fine-grained Supervision, section 3.1"
                    .to_owned(),
                url: "https://arxiv.org/abs/2406.02756".to_owned(),
            },
        )
    }

    fn new(options: Self::Options) -> Result<Self> {
        let plugin = format!("editor-{}", A::NAME);
        let server = A::server(&plugin, &options.server, &options.api)?;
        Ok(Self(
            RemoteEditor::new(server, &options.question)?,
            PhantomData,
        ))
    }

    fn capabilities(&self) -> Capabilities {
        with_files(self.0.files())
    }
}

impl<A: Api> Editor for EditorOver<A> {
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

/// A judge over an API.
#[derive(Debug)]
pub struct JudgeOver<A>(RemoteJudge, PhantomData<A>);

impl<A: Api> Plugin for JudgeOver<A> {
    const NAME: &'static str = A::NAME;
    type Options = Options<A::Options, JudgeOptions>;

    fn info() -> PluginInfo {
        info::<A>(
            "judge",
            "comparisons",
            "Asks which of two responses is better, with a tie allowed, and takes the verdict as JSON or as an anchored last line; anything else is a failure with its reason.",
            Reference {
                title: "AlpacaFarm: A Simulation Framework for Methods that Learn from Human Feedback, section 3"
                    .to_owned(),
                url: "https://arxiv.org/abs/2305.14387".to_owned(),
            },
        )
    }

    fn new(options: Self::Options) -> Result<Self> {
        let plugin = format!("judge-{}", A::NAME);
        let server = A::server(&plugin, &options.server, &options.api)?;
        Ok(Self(
            RemoteJudge::new(server, &options.question)?,
            PhantomData,
        ))
    }

    fn capabilities(&self) -> Capabilities {
        with_files(self.0.files())
    }
}

impl<A: Api> Judge for JudgeOver<A> {
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

fn info<A: Api>(kind: &str, what: &str, does: &str, reference: Reference) -> PluginInfo {
    PluginInfo {
        summary: format!("{what} by {}", A::MODEL),
        description: format!(
            "{does} Every answer is kept by what was sent alone, and never asked for twice. {}",
            A::KEY
        ),
        references: vec![reference],
        capabilities: with_files(Vec::new()),
        examples: vec![format!(
            "[{kind}]\nuse = \"{}\"\noptions = {}",
            A::NAME,
            A::EXAMPLE
        )],
    }
}

/// What a plugin that asks a server needs, and the files that its questions depend on.
fn with_files(files: Vec<String>) -> Capabilities {
    Capabilities {
        deterministic: false,
        network: true,
        files,
        ..Capabilities::default()
    }
}
