//! Options of a plugin: a plain serde struct, parsed from the JSON that the host has already checked against its schema.

use abi_stable::std_types::RString;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result};

/// Options from a JSON object; the error names the key.
///
/// # Errors
/// [`crate::ErrorCode::INVALID_OPTIONS`] for JSON that is no `O`, or that has keys which `O` denies.
pub fn parse<O: DeserializeOwned>(json: &str) -> Result<O> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let message = without_position(&error.into_inner());
        match path.as_str() {
            "." => Error::options(message),
            path => Error::options(format!("option {path}: {message}")),
        }
    })
}

/// The message of a JSON error. Its line and column refer to JSON that the user never saw.
fn without_position(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rfind(" at line ") {
        Some(end) => message[..end].to_owned(),
        None => message,
    }
}

/// The default options as JSON.
///
/// # Errors
/// [`crate::ErrorCode::INVALID_OPTIONS`] where `O` does not serialise.
pub fn defaults<O: Serialize + Default>() -> Result<Value> {
    // Through text: 0.95_f32 is then 0.95, and not the nearest f32 in all the digits of an f64.
    serde_json::to_string(&O::default())
        .and_then(|text| serde_json::from_str(&text))
        .map_err(|error| Error::options(format!("the defaults are no JSON: {error}")))
}

/// A value as JSON that crosses the boundary.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<RString> {
    serde_json::to_string(value)
        .map(RString::from)
        .map_err(|error| Error::plugin(format!("no JSON: {error}")))
}

/// A value from JSON that came across the boundary.
pub(crate) fn from_json<T: DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|error| Error::plugin(format!("does not parse: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Options {
        gamma: f32,
        inner: Inner,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        steps: Vec<u32>,
    }

    #[test]
    fn absent_keys_take_their_defaults() {
        let options: Options = parse(r#"{"gamma": 0.5}"#).unwrap();
        assert_eq!(options.gamma, 0.5);
        assert_eq!(options.inner, Inner::default());
    }

    #[test]
    fn errors_name_the_key_and_no_position() {
        let error = parse::<Options>(r#"{"inner": {"steps": [1, "two"]}}"#).unwrap_err();
        assert_eq!(
            error.message,
            "option inner.steps[1]: invalid type: string \"two\", expected u32"
        );
    }

    #[test]
    fn defaults_keep_their_short_form() {
        #[derive(Serialize)]
        struct Short {
            lambda: f32,
        }
        impl Default for Short {
            fn default() -> Self {
                Self { lambda: 0.95 }
            }
        }
        assert_eq!(
            defaults::<Short>().unwrap().to_string(),
            r#"{"lambda":0.95}"#
        );
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = parse::<Options>(r#"{"gama": 1}"#).unwrap_err();
        assert!(error.message.contains("unknown field `gama`"), "{error}");
    }
}
