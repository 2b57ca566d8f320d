//! Bodies as the APIs write them.

use finegrain_sdk::serde_json::{Value, json};

/// Anthropic's answer with some content blocks; the usage is 100 in, 20 out.
pub fn anthropic(model: &str, content: &Value, stop_reason: &str) -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": content,
        "stop_reason": stop_reason, "stop_sequence": null, "stop_details": null,
        "usage": {
            "input_tokens": 100, "output_tokens": 20, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
            "service_tier": "standard"
        }
    })
}

/// Anthropic's error.
pub fn anthropic_error(kind: &str, message: &str) -> String {
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})
        .to_string()
}

/// OpenAI's answer with a content; the usage is 100 in, 20 out.
pub fn openai(model: &str, content: &str, finish_reason: &str) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    })
}

/// OpenAI's error.
pub fn openai_error(kind: &str, code: &str, param: Option<&str>, message: &str) -> String {
    json!({"error": {"message": message, "type": kind, "param": param, "code": code}}).to_string()
}
