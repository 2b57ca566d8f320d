use ureq::http::{HeaderName, HeaderValue};

use super::*;
use crate::options::{AnthropicOptions, OpenAiOptions};
use crate::testing::{anthropic_error, openai_error};

const URL: &str = "http://server/v1/messages";

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            (
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )
        })
        .collect()
}

fn judge(status: u16, pairs: &[(&str, &str)], body: &str) -> Verdict {
    let api = Api::anthropic(&AnthropicOptions::default());
    verdict(&api, URL, status, &headers(pairs), body, SystemTime::now())
}

/// A verdict in a word.
fn word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Answer(_) => "answer".to_owned(),
        Verdict::Row(failure) => format!("row {}", failure.kind.name()),
        Verdict::Stop(_) => "stop".to_owned(),
        Verdict::PauseAll(..) => "pause".to_owned(),
        Verdict::Retry { paid: true, .. } => "retry paid".to_owned(),
        Verdict::Retry { .. } => "retry".to_owned(),
    }
}

#[test]
fn anthropics_errors_mean_what_their_table_says() {
    let invalid = |message: &str| anthropic_error("invalid_request_error", message);
    for (status, body, expected) in [
        (400, invalid("messages: bad"), "row rejected"),
        (
            400,
            invalid("prompt is too long: 1100000 tokens"),
            "row too long",
        ),
        (
            400,
            invalid("Input is too long for requested model"),
            "row too long",
        ),
        (
            400,
            invalid("input length and `max_tokens` exceed context limit: 9 + 9 > 10"),
            "row too long",
        ),
        (
            400,
            invalid("Your credit balance is too low to access the API"),
            "stop",
        ),
        (
            400,
            invalid("You have reached your specified API usage spend limit"),
            "stop",
        ),
        (
            400,
            invalid("The request body is not valid JSON: unexpected end of data: line 1"),
            "retry",
        ),
        (
            401,
            anthropic_error("authentication_error", "invalid x-api-key"),
            "stop",
        ),
        (402, anthropic_error("billing_error", "pay"), "stop"),
        (403, anthropic_error("permission_error", "no"), "stop"),
        (
            404,
            anthropic_error("not_found_error", "model: claude-9"),
            "stop",
        ),
        (408, String::new(), "retry paid"),
        (409, anthropic_error("conflict", "busy"), "retry"),
        (
            413,
            "<html>413 Request Entity Too Large</html>".to_owned(),
            "row too large",
        ),
        (
            429,
            anthropic_error("rate_limit_error", "slow down"),
            "pause",
        ),
        (500, anthropic_error("api_error", "oops"), "retry"),
        (502, "<html>Bad gateway</html>".to_owned(), "retry paid"),
        (503, String::new(), "retry"),
        (504, anthropic_error("timeout_error", "late"), "retry paid"),
        (
            529,
            anthropic_error("overloaded_error", "Overloaded"),
            "retry",
        ),
        (200, "{\"type\":\"mes".to_owned(), "retry paid"),
        (200, "<html>login</html>".to_owned(), "retry paid"),
        (
            200,
            r#"{"type":"message","content":[]}"#.to_owned(),
            "retry paid",
        ),
        (301, String::new(), "stop"),
        (307, String::new(), "stop"),
        (418, String::new(), "row rejected"),
    ] {
        assert_eq!(
            word(&judge(status, &[], &body)),
            expected,
            "{status} {body}"
        );
    }
}

#[test]
fn a_spend_limit_under_429_stops_the_run() {
    let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"limit","details":{"error_code":"enforced_spend_limit_reached"}}}"#;
    assert_eq!(word(&judge(429, &[], body)), "stop");
}

#[test]
fn errors_of_other_servers_mean_what_their_words_say() {
    let api = |status: u16, body: &str| {
        let options = OpenAiOptions::default();
        let address = crate::api::Address::parse("http://server/v1").unwrap();
        let api = Api::openai(&options, &address);
        word(&verdict(
            &api,
            URL,
            status,
            &HeaderMap::new(),
            body,
            SystemTime::now(),
        ))
    };
    let openai =
        |code: &str, message: &str| openai_error("invalid_request_error", code, None, message);
    for (status, body, expected) in [
        (400, openai("context_length_exceeded", "too many"), "row too long"),
        (
            400,
            r#"{"object":"error","message":"This model's maximum context length is 2048 tokens. However, you requested 3000","code":400}"#.to_owned(),
            "row too long",
        ),
        (
            400,
            r#"{"object":"error","message":"max_tokens must be at least 1, got -186.","code":400}"#.to_owned(),
            "row too long",
        ),
        (
            400,
            r#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error","n_ctx":2048}}"#.to_owned(),
            "row too long",
        ),
        (
            401,
            r#"{"error":{"code":401,"message":"Invalid API Key","type":"authentication_error"}}"#.to_owned(),
            "stop",
        ),
        (404, r#"{"error":"model 'x' not found"}"#.to_owned(), "stop"),
        (429, openai("rate_limit_exceeded", "Rate limit reached for requests"), "pause"),
        (429, openai("insufficient_quota", "You exceeded your current quota"), "stop"),
        (
            429,
            openai(
                "rate_limit_exceeded",
                "Request too large for gpt-5 on tokens per min (TPM): Limit 30000, Requested 40000",
            ),
            "row over the limit a minute",
        ),
        (422, r#"{"detail":[{"loc":["body"],"msg":"bad"}]}"#.to_owned(), "row rejected"),
        (503, r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#.to_owned(), "retry"),
    ] {
        assert_eq!(api(status, &body), expected, "{status} {body}");
    }
}

#[test]
fn the_words_of_the_server_and_the_request_are_in_the_message() {
    let body = anthropic_error("not_found_error", "model: claude-9");
    let Verdict::Stop(why) = judge(404, &[("request-id", "req_77")], &body) else {
        panic!("no stop");
    };
    for part in ["model: claude-9", "not_found_error", "req_77", URL] {
        assert!(why.contains(part), "{why}");
    }
}

#[test]
fn a_redirect_is_named_and_not_followed() {
    let verdict = judge(308, &[("location", "https://elsewhere/")], "");
    assert!(
        matches!(verdict, Verdict::Stop(why) if why.contains("https://elsewhere/") && why.contains(URL))
    );
}

#[test]
fn waits_come_from_the_headers_and_one_of_hours_stops_the_run() {
    let body = anthropic_error("rate_limit_error", "slow");
    let pause = judge(429, &[("retry-after", "30")], &body);
    assert!(matches!(pause, Verdict::PauseAll(Some(wait), _) if wait == Duration::from_secs(30)));
    assert_eq!(
        word(&judge(429, &[("retry-after", "86400")], &body)),
        "stop"
    );
    let retry = judge(529, &[("retry-after-ms", "1500")], "");
    assert!(
        matches!(retry, Verdict::Retry { after: Some(wait), .. } if wait == Duration::from_millis(1500))
    );
}

#[test]
fn a_server_that_says_whether_to_retry_is_heeded() {
    assert_eq!(
        word(&judge(500, &[("x-should-retry", "false")], "")),
        "row rejected"
    );
    assert_eq!(
        word(&judge(400, &[("x-should-retry", "true")], "")),
        "retry"
    );
    for (status, expected) in [
        (429, "pause"),
        (401, "stop"),
        (307, "stop"),
        (413, "row too large"),
    ] {
        assert_eq!(
            word(&judge(status, &[("x-should-retry", "true")], "")),
            expected
        );
    }
}
