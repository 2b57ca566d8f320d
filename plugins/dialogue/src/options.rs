//! Options of an editor and of a judge that ask a text model; a plugin flattens them beside those of its client.
//!
//! Neither struct denies unknown keys itself (serde cannot, in a struct that is flattened); the host closes the schema.

use finegrain_sdk::schemars::JsonSchema;
use finegrain_sdk::serde::{Deserialize, Serialize};

use crate::minimality::Limits;

/// How the model writes an edit down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", rename_all = "kebab-case")]
#[schemars(crate = "finegrain_sdk::schemars")]
pub enum AnswerFormat {
    /// The whole edited response between two marks.
    #[default]
    Text,
    /// An object with the whole edited response.
    Json,
    /// Replacements of passages, which are applied exactly: everything else stays by construction.
    Replacements,
}

/// How the model writes a verdict down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", rename_all = "kebab-case")]
#[schemars(crate = "finegrain_sdk::schemars")]
pub enum VerdictFormat {
    /// An object with a reason and a verdict; for servers that take a JSON schema.
    #[default]
    Json,
    /// Prose whose last line is the verdict.
    Line,
}

/// Options of an editor, beside those of its client.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", default)]
#[schemars(crate = "finegrain_sdk::schemars")]
pub struct EditorOptions {
    /// How the model writes an edit down: `text`, `json` or `replacements`.
    pub format: AnswerFormat,
    /// A file with another prompt than the built-in one of the format; a relative path starts at the working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// How often a row is asked about at most: after an answer that cannot be used, the model is told why and asked again.
    #[schemars(range(min = 1, max = 5))]
    pub tries: u32,
    /// Whether white space at the ends of the response, and its line ends, are put back where the model lost them.
    pub restore_white_space: bool,
    /// Whether quotes, dashes, ellipses and white space that the model rewrote beside its edit are taken back.
    pub revert_typography: bool,
    /// What an edit may change at most.
    pub limits: Limits,
}

impl Default for EditorOptions {
    fn default() -> Self {
        Self {
            format: AnswerFormat::Text,
            template: None,
            tries: 2,
            restore_white_space: true,
            revert_typography: false,
            limits: Limits::default(),
        }
    }
}

/// Options of a judge, beside those of its client.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "finegrain_sdk::serde", default)]
#[schemars(crate = "finegrain_sdk::schemars")]
pub struct JudgeOptions {
    /// How the model writes a verdict down: `json`, or `line` for servers that take no schema.
    pub verdict: VerdictFormat,
    /// A file with another prompt than the built-in one; a relative path starts at the working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// How often a comparison is asked at most: after an answer without a verdict, the model is told why and asked again.
    #[schemars(range(min = 1, max = 5))]
    pub tries: u32,
}

impl Default for JudgeOptions {
    fn default() -> Self {
        Self {
            verdict: VerdictFormat::Json,
            template: None,
            tries: 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use finegrain_sdk::options::{defaults, parse};
    use finegrain_sdk::schemars::generate::SchemaSettings;

    /// What a plugin does: its client's options and ours in one table.
    #[derive(Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
    #[serde(crate = "finegrain_sdk::serde", default)]
    #[schemars(crate = "finegrain_sdk::schemars")]
    struct Plugin {
        model: String,
        #[serde(flatten)]
        edit: EditorOptions,
    }

    #[test]
    fn options_are_flattened_beside_others() {
        let options: Plugin = parse(
            r#"{"model": "m", "format": "replacements", "tries": 3, "limits": {"max_length_ratio": 2}}"#,
        )
        .unwrap();
        assert_eq!(options.model, "m");
        assert_eq!(options.edit.format, AnswerFormat::Replacements);
        assert_eq!(options.edit.tries, 3);
        assert_eq!(options.edit.limits.max_length_ratio, 2.0);
        assert_eq!(
            options.edit.limits.max_changed_words,
            Limits::default().max_changed_words
        );
        let text = defaults::<Plugin>().unwrap().to_string();
        assert_eq!(parse::<Plugin>(&text).unwrap(), Plugin::default());
    }

    #[test]
    fn a_misspelt_limit_is_refused() {
        let error = parse::<Plugin>(r#"{"limits": {"max_changed_word": 0.1}}"#).unwrap_err();
        assert!(error.message.contains("max_changed_word"), "{error}");
    }

    #[test]
    fn the_schema_of_the_table_has_the_keys_of_both_with_meaning_and_range() {
        let mut settings = SchemaSettings::draft2020_12();
        settings.inline_subschemas = true;
        let schema = settings
            .into_generator()
            .into_root_schema_for::<Plugin>()
            .to_value();
        let keys = &schema["properties"];
        for key in [
            "model",
            "format",
            "template",
            "tries",
            "restore_white_space",
        ] {
            assert!(keys.get(key).is_some(), "{key} in {keys}");
        }
        assert_eq!(keys["tries"]["minimum"], 1);
        let limits = keys["limits"]["properties"].as_object().unwrap();
        for (key, limit) in limits {
            assert!(limit["description"].is_string(), "{key}");
            assert!(
                limit["type"] == "boolean" || limit["maximum"].is_number(),
                "{key}: {limit}"
            );
        }
    }

    /// docs/editing-prompts.md gives a reason for every default; a default that changes must change there.
    #[test]
    fn the_page_on_prompts_has_the_defaults() {
        let page = include_str!("../../../docs/editing-prompts.md");
        let defaults = defaults::<EditorOptions>().unwrap();
        let mut rows = defaults.as_object().unwrap().clone();
        let limits = rows.remove("limits").unwrap();
        rows.extend(limits.as_object().unwrap().clone());
        assert!(rows.len() > 12);
        for (key, default) in rows {
            let row = format!("| `{key}` | `{default}` |");
            assert!(page.contains(&row), "{row}");
        }
        assert_eq!(
            JudgeOptions::default().tries,
            EditorOptions::default().tries
        );
    }
}
