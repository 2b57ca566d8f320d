//! What an errored line of a batch means: what the same error means as a reply.

use std::time::SystemTime;

use finegrain_sdk::serde_json::Value;
use ureq::http::HeaderMap;

use crate::api::Api;
use crate::verdict::{Verdict, verdict};

/// The verdict on an error, under the status that it would have as a reply.
pub(super) fn meaning(api: &Api, url: &str, error: &Value) -> Verdict {
    let kind = error["error"]["type"].as_str().unwrap_or_default();
    let status = match kind {
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "api_error" => 500,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => 400,
    };
    let now = SystemTime::now();
    verdict(api, url, status, &HeaderMap::new(), &error.to_string(), now)
}

#[cfg(test)]
mod tests {
    use finegrain_sdk::serde_json::json;

    use super::*;
    use crate::options::AnthropicOptions;

    #[test]
    fn no_money_ends_the_call_and_a_bad_request_the_row() {
        let api = Api::anthropic(&AnthropicOptions::default());
        let of = |kind: &str, message: &str| {
            let error = json!({"type": "error", "error": {"type": kind, "message": message}});
            meaning(&api, "http://h", &error)
        };
        let low = "Your credit balance is too low to access the API";
        assert!(matches!(of("invalid_request_error", low), Verdict::Stop(_)));
        assert!(matches!(of("invalid_request_error", "no"), Verdict::Row(_)));
        assert!(matches!(of("api_error", "oops"), Verdict::Retry { .. }));
        assert!(matches!(
            of("overloaded_error", "busy"),
            Verdict::Retry { .. }
        ));
        assert!(matches!(of("not_found_error", "model"), Verdict::Stop(_)));
    }
}
