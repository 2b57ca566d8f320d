//! Checks the options of a plugin against its JSON schema, with messages for whoever wrote the configuration.
//!
//! The schema decides; this file says what was found, at which key, and what is accepted there. The plugin's own parser
//! has the last word.

use finegrain_sdk::descriptor::Descriptor;
use jsonschema::error::ValidationErrorKind;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::plugins::identity::Identity;

/// The options as a JSON object: `null` stands for none.
///
/// # Errors
/// Wrong input: something that is no table, a key that the plugin does not have, a value outside what the schema accepts.
pub(super) fn check(
    identity: &Identity,
    descriptor: &Descriptor,
    options: &Value,
) -> Result<Value> {
    let options = match options {
        Value::Null => Value::Object(Map::new()),
        options => options.clone(),
    };
    let schema = closed(&descriptor.options_schema);
    let Some(table) = options.as_object() else {
        return Err(Error::input(format!(
            "the options of {identity} are {options}, and only a table is accepted"
        )));
    };
    let known = schema.get("properties").and_then(Value::as_object);
    if known.is_none() && table.is_empty() {
        return Ok(options);
    }
    let validator = jsonschema::validator_for(&schema).map_err(|error| {
        Error::plugin(format!(
            "{identity} has an options schema that is no JSON schema: {error}"
        ))
    })?;
    let errors: Vec<_> = validator.iter_errors(&options).collect();
    // A wrong name is the cause of a missing one, so it is told first.
    let unknown = |error: &&jsonschema::ValidationError<'_>| {
        matches!(
            error.kind(),
            ValidationErrorKind::AdditionalProperties { .. }
        )
    };
    match errors.iter().find(unknown).or(errors.first()) {
        None => Ok(options),
        Some(error) => Err(explain(identity, &schema, error)),
    }
}

/// The schema with every table closed, also where the author forgot `deny_unknown_fields`: a misspelt key must not pass.
fn closed(schema: &Value) -> Value {
    let mut schema = schema.clone();
    close(&mut schema);
    schema
}

fn close(schema: &mut Value) {
    let Some(table) = schema.as_object_mut() else {
        return;
    };
    let typed = table.contains_key("properties");
    if typed && !table.contains_key("additionalProperties") {
        table.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    if let Some(properties) = table.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(close);
    }
    if let Some(items) = table.get_mut("items") {
        close(items);
    }
}

fn explain(identity: &Identity, schema: &Value, error: &jsonschema::ValidationError<'_>) -> Error {
    let path: Vec<String> = error
        .instance_path()
        .as_str()
        .split('/')
        .skip(1)
        .map(ToOwned::to_owned)
        .collect();
    let place = at(schema, &path);
    let key = |last: Option<&str>| {
        let mut keys: Vec<&str> = path.iter().map(String::as_str).collect();
        keys.extend(last);
        keys.join(".")
    };
    let hint = format!("finegrain plugin info {} lists the options", identity.id());
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let name = unexpected.first().map_or("", String::as_str);
            let known = place
                .and_then(|place| place.get("properties"))
                .and_then(Value::as_object)
                .map(|properties| properties.keys().map(String::as_str).collect())
                .unwrap_or_default();
            Error::input(format!(
                "{identity} has no option {}; {}",
                key(Some(name)),
                nearest(name, known)
            ))
        }
        ValidationErrorKind::Required { property } => Error::input(format!(
            "{identity} needs the option {}",
            key(property.as_str())
        )),
        _ => {
            let accepted = place.map_or_else(|| error.to_string(), accepted);
            Error::input(format!(
                "option {} of {identity} is {}; accepted is {accepted}",
                key(None),
                error.instance()
            ))
        }
    }
    .hint(hint)
}

/// The names nearest to `name`, or all where none is near.
pub(super) fn nearest(name: &str, mut known: Vec<&str>) -> String {
    if known.is_empty() {
        return "there are none".to_owned();
    }
    let near = |other: &str| strsim::jaro_winkler(name, other);
    known.sort_by(|a, b| near(b).total_cmp(&near(a)).then(a.cmp(b)));
    if near(known[0]) > 0.75 {
        known.retain(|other| near(other) > 0.75);
        known.truncate(3);
        return format!("nearest: {}", known.join(", "));
    }
    known.sort_unstable();
    format!("known: {}", known.join(", "))
}

/// The schema of the value at `path`.
fn at<'a>(schema: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(schema, |schema, key| {
        schema
            .get("properties")
            .and_then(|properties| properties.get(key))
            .or_else(|| schema.get("items"))
            .or_else(|| schema.get("additionalProperties"))
    })
}

/// What a schema accepts, in words.
pub(super) fn accepted(schema: &Value) -> String {
    let mut parts = alternatives(schema);
    let last = parts.pop().unwrap_or_default();
    if parts.is_empty() {
        return last;
    }
    format!("{} or {last}", parts.join(", "))
}

fn alternatives(schema: &Value) -> Vec<String> {
    if let Some(value) = schema.get("const") {
        return vec![value.to_string()];
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().map(ToString::to_string).collect();
    }
    for several in ["oneOf", "anyOf"] {
        if let Some(schemas) = schema.get(several).and_then(Value::as_array) {
            return schemas.iter().flat_map(alternatives).collect();
        }
    }
    match schema.get("type") {
        Some(Value::Array(types)) => types.iter().map(|one| of_type(schema, one)).collect(),
        Some(one) => vec![of_type(schema, one)],
        None => vec!["any value".to_owned()],
    }
}

fn of_type(schema: &Value, one: &Value) -> String {
    match one.as_str().unwrap_or_default() {
        "boolean" => "true or false".to_owned(),
        "string" => "a text".to_owned(),
        "null" => "nothing".to_owned(),
        "integer" => format!("an integer{}", range(schema)),
        "number" => format!("a number{}", range(schema)),
        "array" => match schema.get("items") {
            Some(items) => format!("a list, each element {}", accepted(items)),
            None => "a list".to_owned(),
        },
        "object" => "a table".to_owned(),
        other => other.to_owned(),
    }
}

fn range(schema: &Value) -> String {
    let bounds: Vec<String> = [
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    ]
    .into_iter()
    .filter_map(|(key, words)| Some(format!("{words} {}", schema.get(key)?.as_f64()?)))
    .collect();
    if bounds.is_empty() {
        return String::new();
    }
    format!(" {}", bounds.join(" and "))
}

#[cfg(test)]
mod tests {
    use finegrain_sdk::schemars::generate::SchemaSettings;
    use finegrain_sdk::schemars::{self, JsonSchema};
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;
    use crate::plugins::identity::{PluginKind, Source};

    #[derive(Deserialize, Serialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Tokens {
        /// Every token.
        All,
        /// The edited ones.
        Changed,
    }

    #[derive(Deserialize, Serialize, JsonSchema)]
    struct Inner {
        steps: Vec<u32>,
    }

    #[derive(Deserialize, Serialize, JsonSchema)]
    struct Options {
        /// Discount.
        #[serde(default)]
        #[schemars(range(min = 0.0, max = 1.0))]
        gamma: f32,
        #[serde(default)]
        tokens: Option<Tokens>,
        #[serde(default)]
        inner: Option<Inner>,
        #[serde(default)]
        whiten: bool,
        name: String,
    }

    fn checked(options: &Value) -> Result<Value> {
        let identity = Identity {
            kind: PluginKind::Advantage,
            name: "gae".into(),
            version: "0.1.0".into(),
            source: Source::BuiltIn,
            sha256: None,
            sources: None,
        };
        let mut settings = SchemaSettings::draft2020_12();
        settings.inline_subschemas = true;
        let descriptor = Descriptor {
            name: "gae".into(),
            package: "p".into(),
            version: "0.1.0".into(),
            sdk: "0.1.0".into(),
            info: finegrain_sdk::PluginInfo::default(),
            options_schema: settings
                .into_generator()
                .into_root_schema_for::<Options>()
                .to_value(),
            options_defaults: json!({}),
        };
        check(&identity, &descriptor, options)
    }

    fn message(options: &Value) -> String {
        let error = checked(options).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    #[test]
    fn options_within_the_schema_pass_unchanged() {
        let options =
            json!({"name": "x", "gamma": 1, "tokens": "changed", "inner": {"steps": [1]}});
        assert_eq!(checked(&options).unwrap(), options);
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_one() {
        assert_eq!(
            message(&json!({"name": "x", "gama": 1})),
            "plugin advantage/gae (built-in) has no option gama; nearest: gamma"
        );
        assert_eq!(
            message(&json!({"name": "x", "xyz": 1})),
            "plugin advantage/gae (built-in) has no option xyz; known: gamma, inner, name, tokens, whiten"
        );
    }

    #[test]
    fn a_value_out_of_range_is_refused_with_the_range() {
        assert!(message(&json!({"name": "x", "gamma": 1.5})).ends_with(
            "option gamma of plugin advantage/gae (built-in) is 1.5; accepted is a number at least 0 and at most 1"
        ));
    }

    #[test]
    fn wrong_types_and_names_are_refused_with_what_is_accepted() {
        for (options, end) in [
            (
                json!({"name": "x", "whiten": "yes"}),
                "is \"yes\"; accepted is true or false",
            ),
            (
                json!({"name": "x", "tokens": "some"}),
                "is \"some\"; accepted is \"all\", \"changed\" or nothing",
            ),
            (json!({}), "needs the option name"),
        ] {
            let message = message(&options);
            assert!(message.ends_with(end), "{message}");
        }
        assert!(message(&json!([1])).ends_with("are [1], and only a table is accepted"));
    }
}
