//! The errors of servers: as many shapes as there are servers.

use finegrain_sdk::serde_json::{self, Value};

use crate::api::shorten;

/// What an error says, whatever its shape. What is absent is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorBody {
    /// `error.type`.
    pub(crate) kind: String,
    /// `error.code`, a text or a number, or Anthropic's `error.details.error_code`.
    pub(crate) code: String,
    /// The field that the server means.
    pub(crate) param: String,
    /// The server's words, at most some lines.
    pub(crate) message: String,
    /// Anthropic's id of the request, which is also a header.
    pub(crate) request_id: Option<String>,
}

impl ErrorBody {
    /// Reads a body: Anthropic's and OpenAI's objects, vLLM's older flat one, a bare text under `error`, `message` or
    /// `detail`, and what is no JSON at all, such as a proxy's page.
    pub(crate) fn parse(body: &str) -> Self {
        let Ok(value) = serde_json::from_str::<Value>(body) else {
            return Self {
                message: shorten(&without_tags(body)),
                ..Self::default()
            };
        };
        let inner = match &value["error"] {
            object @ Value::Object(_) => object,
            _ => &value,
        };
        let code = match &inner["details"]["error_code"] {
            Value::Null => text(&inner["code"]),
            detail => text(detail),
        };
        let message = ["message", "error", "detail"]
            .iter()
            .map(|key| text(&inner[*key]))
            .find(|text| !text.is_empty())
            .unwrap_or_else(|| body.to_owned());
        Self {
            kind: text(&inner["type"]),
            code,
            param: text(&inner["param"]),
            message: shorten(&message),
            request_id: value["request_id"].as_str().map(str::to_owned),
        }
    }

    /// Whether the message, in lower case, has one of these parts.
    pub(crate) fn says(&self, parts: &[&str]) -> bool {
        let message = self.message.to_lowercase();
        parts.iter().any(|part| message.contains(part))
    }
}

/// A text or a number as text; a list or an object as JSON, as `FastAPI` writes details.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A page without its tags, for a message.
fn without_tags(page: &str) -> String {
    let mut inside = false;
    page.chars()
        .map(|c| {
            match c {
                '<' => inside = true,
                '>' if inside => {
                    inside = false;
                    return ' ';
                }
                _ => {}
            }
            if inside { ' ' } else { c }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_shape_gives_its_message_kind_and_code() {
        let cases = [
            (
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow","details":{"error_code":"enforced_spend_limit_reached"}},"request_id":"req_1"}"#,
                ("rate_limit_error", "enforced_spend_limit_reached", "slow"),
            ),
            (
                r#"{"error":{"message":"no","type":"invalid_request_error","param":"max_tokens","code":"unsupported_parameter"}}"#,
                ("invalid_request_error", "unsupported_parameter", "no"),
            ),
            (
                r#"{"error":{"code":401,"message":"Invalid API Key","type":"authentication_error"}}"#,
                ("authentication_error", "401", "Invalid API Key"),
            ),
            (
                r#"{"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400}"#,
                ("BadRequestError", "400", "too long"),
            ),
            (
                r#"{"error":"model not loaded"}"#,
                ("", "", "model not loaded"),
            ),
            (r#"{"detail":"Not Found"}"#, ("", "", "Not Found")),
            (
                "<html><head><title>413</title></head><body>Payload  Too Large</body></html>",
                ("", "", "413 Payload Too Large"),
            ),
            ("", ("", "", "")),
        ];
        for (body, (kind, code, message)) in cases {
            let error = ErrorBody::parse(body);
            assert_eq!(
                (&*error.kind, &*error.code, &*error.message),
                (kind, code, message),
                "{body}"
            );
        }
    }

    #[test]
    fn the_field_and_the_id_of_the_request_are_read() {
        let error = ErrorBody::parse(
            r#"{"error":{"message":"m","param":"response_format"},"request_id":"req_2"}"#,
        );
        assert_eq!(error.param, "response_format");
        assert_eq!(error.request_id.as_deref(), Some("req_2"));
    }
}
