use finegrain_sdk::options::{defaults, parse};
use finegrain_sdk::schemars::{JsonSchema, schema_for};
use finegrain_sdk::serde::{Deserialize, Serialize};
use finegrain_sdk::serde_json::{Value, json};

use super::*;

/// As a plugin takes them in.
#[derive(Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", deny_unknown_fields, default)]
#[schemars(crate = "finegrain_sdk::schemars")]
struct PluginOptions {
    #[serde(flatten)]
    server: ServerOptions,
    #[serde(flatten)]
    claude: AnthropicOptions,
    /// The plugin's own.
    template: String,
}

#[test]
fn options_stand_side_by_side_with_the_plugins_own() {
    let options: PluginOptions = parse(
        r#"{"model": "claude-haiku-5-5", "effort": "low", "template": "mine", "budget_usd": 2.5, "thinking": "between_tools"}"#,
    )
    .unwrap();
    assert_eq!(options.template, "mine");
    assert_eq!(options.claude.effort, Some(Effort::Low));
    assert_eq!(options.claude.thinking, Some(Thinking::BetweenTools));
    assert_eq!(options.server.budget_usd, Some(2.5));
    assert_eq!(options.server.max_tokens, 4096);
}

#[test]
fn an_unknown_key_is_refused() {
    let error = parse::<PluginOptions>(r#"{"modle": "m"}"#).unwrap_err();
    assert!(error.message.contains("unknown field `modle`"), "{error}");
    let schema = Value::from(schema_for!(PluginOptions));
    let closed = [
        &schema["additionalProperties"],
        &schema["unevaluatedProperties"],
    ];
    assert!(closed.contains(&&json!(false)), "{schema}");
}

#[test]
fn the_schema_holds_every_option_with_its_range_in_one_flat_object() {
    let schema = Value::from(schema_for!(PluginOptions));
    let properties = &schema["properties"];
    for name in [
        "model",
        "base_url",
        "api_key_env",
        "max_tokens",
        "temperature",
        "concurrency",
        "requests_per_minute",
        "tokens_per_minute",
        "timeout_seconds",
        "budget_usd",
        "prices",
        "ca_file",
        "replay",
        "effort",
        "thinking",
        "template",
    ] {
        assert!(properties[name].is_object(), "{name}: {schema}");
        assert!(
            properties[name]["description"].is_string(),
            "{name}: {schema}"
        );
    }
    assert_eq!(properties["concurrency"]["minimum"], 1);
    assert_eq!(properties["concurrency"]["maximum"], 256);
}

#[test]
fn the_defaults_send_nothing_that_was_not_set() {
    let anthropic = defaults::<AnthropicOptions>().unwrap();
    let server = defaults::<ServerOptions>().unwrap();
    for (options, name) in [
        (&server, "temperature"),
        (&server, "budget_usd"),
        (&anthropic, "effort"),
        (&anthropic, "thinking"),
    ] {
        assert_eq!(options[name], Value::Null, "{name}");
    }
    let openai = defaults::<OpenAiOptions>().unwrap();
    assert_eq!(openai["length_field"], "auto");
    assert_eq!(openai["json_schema"], "auto");
    assert_eq!(openai["seed"], Value::Null);
}
