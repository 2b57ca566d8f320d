use finegrain_sdk::serde_json::json;

use super::*;
use crate::options::{Effort, Length, StructuredOutput, Thinking};
use crate::outcome::{Failure, FailureKind};
use crate::question::Schema;

fn server(model: &str) -> ServerOptions {
    ServerOptions {
        model: model.to_owned(),
        ..ServerOptions::default()
    }
}

fn question() -> Question {
    let mut question = Question::new("p1", "You edit.", "Edit this.").then("Done.", "Less.");
    question.schema = Some(Schema {
        name: "edit".to_owned(),
        schema: json!({"type": "object", "properties": {"needs_edit": {"type": "boolean"}, "edited": {"type": "string"}}}),
    });
    question
}

fn openai_api(length: Length, schema: StructuredOutput, address: &str) -> Api {
    let options = OpenAiOptions {
        length_field: length,
        json_schema: schema,
        ..OpenAiOptions::default()
    };
    Api::openai(&options, &Address::parse(address).unwrap())
}

fn local() -> Api {
    openai_api(
        Length::Auto,
        StructuredOutput::Auto,
        "http://127.0.0.1:1/v1",
    )
}

#[test]
fn anthropics_body_has_its_keys_in_order_and_nothing_that_was_not_set() {
    let api = Api::anthropic(&AnthropicOptions::default());
    let body = api.body(&question(), &server("m"), 0).unwrap();
    assert_eq!(
        body.text,
        r#"{"max_tokens":4096,"messages":[{"content":"Edit this.","role":"user"},{"content":"Done.","role":"assistant"},{"content":"Less.","role":"user"}],"model":"m","output_config":{"format":{"schema":{"type":"object","properties":{"needs_edit":{"type":"boolean"},"edited":{"type":"string"}}},"type":"json_schema"}},"system":"You edit."}"#
    );
    assert!(body.structured);
}

#[test]
fn anthropics_own_options_are_sent_where_set() {
    let api = Api::anthropic(&AnthropicOptions {
        effort: Some(Effort::Xhigh),
        thinking: Some(Thinking::Disabled),
        ..AnthropicOptions::default()
    });
    let options = ServerOptions {
        temperature: Some(0.5),
        ..server("m")
    };
    let body = api
        .body(&Question::new("p", "s", "u"), &options, 0)
        .unwrap();
    assert_eq!(body.json["output_config"], json!({"effort": "xhigh"}));
    assert_eq!(body.json["thinking"], json!({"type": "disabled"}));
    assert_eq!(body.json["temperature"], 0.5);
    assert!(!body.structured);
}

#[test]
fn openais_body_takes_the_forms_that_servers_ask_for() {
    let api = local();
    let text = |form| api.body(&question(), &server("m"), form).unwrap();
    assert_eq!(api.forms(), 4);
    assert_eq!(text(0).json["max_tokens"], 4096);
    assert_eq!(
        text(0).json["messages"][0],
        json!({"role": "system", "content": "You edit."})
    );
    assert_eq!(
        text(0).json["response_format"]["json_schema"]["strict"],
        true
    );
    assert_eq!(text(1).json["max_completion_tokens"], 4096);
    assert!(text(1).structured && !text(2).structured);
    assert_eq!(text(2).json.get("response_format"), None);
    let own = openai_api(Length::Auto, StructuredOutput::On, Api::OPENAI_ADDRESS);
    assert_eq!(own.forms(), 2);
    let body = own.body(&question(), &server("m"), 0).unwrap();
    assert_eq!(body.json["max_completion_tokens"], 4096);
    assert_eq!(body.json.get("temperature"), None);
    assert_eq!(body.json.get("seed"), None);
}

#[test]
fn samples_with_a_seed_have_seeds_of_their_own() {
    let options = OpenAiOptions {
        seed: Some(7),
        ..OpenAiOptions::default()
    };
    let api = Api::openai(&options, &Address::parse("http://h").unwrap());
    let seed = |sample| {
        let question = Question {
            sample,
            ..question()
        };
        api.body(&question, &server("m"), 0).unwrap().json["seed"].clone()
    };
    assert_eq!((seed(0), seed(3)), (json!(7), json!(10)));
}

#[test]
fn a_refused_field_leads_to_the_next_form_and_never_back() {
    let api = local();
    let length = r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","param":"max_tokens","code":"unsupported_parameter"}}"#;
    assert_eq!(api.form_after(0, 400, length), Some(1));
    assert_eq!(api.form_after(1, 400, length), None);
    assert_eq!(api.form_after(0, 500, length), None);
    let schema = r#"{"error":{"message":"response_format is not available","type":"invalid_request_error"}}"#;
    assert_eq!(api.form_after(0, 400, schema), Some(2));
    assert_eq!(api.form_after(1, 400, schema), Some(3));
    assert_eq!(api.form_after(2, 400, schema), None);
    // The field's value, not the field.
    let value =
        r#"{"object":"error","message":"max_tokens must be at least 1, got -186.","code":400}"#;
    assert_eq!(api.form_after(0, 400, value), None);
    let claude = Api::anthropic(&AnthropicOptions::default());
    assert_eq!(claude.form_after(0, 400, length), None);
}

#[test]
fn questions_that_no_api_takes_are_refused_by_their_id() {
    let api = local();
    let mut no_system = question();
    no_system.system = " ".to_owned();
    let mut prefilled = question();
    prefilled.turns.push(Turn::Assistant("Sure:".to_owned()));
    let mut silent = question();
    silent.turns.clear();
    for wrong in [no_system, prefilled, silent] {
        let error = api.body(&wrong, &server("m"), 0).unwrap_err();
        assert!(error.message.contains("\"p1\""), "{error}");
    }
}

#[test]
fn the_path_of_a_call_is_put_behind_either_spelling_of_an_address() {
    let claude = Api::anthropic(&AnthropicOptions::default());
    let url = |api: &Api, text| api.url(&Address::parse(text).unwrap());
    assert_eq!(url(&claude, "https://h"), "https://h/v1/messages");
    assert_eq!(url(&claude, "https://h/v1/"), "https://h/v1/messages");
    assert_eq!(
        url(&local(), "https://h/v1"),
        "https://h/v1/chat/completions"
    );
}

fn claude(content: &Value, stop: &str) -> Read {
    let response = json!({
        "type": "message", "model": "claude-x", "content": content, "stop_reason": stop,
        "stop_details": {"type": "refusal", "category": "frontier_llm", "explanation": "no"},
        "usage": {"input_tokens": 5, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 2, "output_tokens": 9}
    });
    let api = Api::anthropic(&AnthropicOptions::default());
    let envelope = api.envelope(&response.to_string()).unwrap();
    api.read(&json!({}), &envelope)
}

fn failure(reply: &Reply) -> FailureKind {
    match reply {
        Reply::Unusable(Failure { kind, .. }) => *kind,
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_text_blocks_count_and_thinking_does_not() {
    let content = json!([
        {"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Mars "}, {"type": "other", "text": "x"},
        {"type": "text", "text": "is red."}
    ]);
    let read = claude(&content, "end_turn");
    assert_eq!(read.reply, Reply::Text("Mars is red.".to_owned()));
    assert_eq!(read.model, "claude-x");
    let usage = Usage {
        input: 37,
        cache_read: 30,
        cache_write: 2,
        output: 9,
    };
    assert_eq!(read.usage, Some(usage));
}

#[test]
fn every_stop_reason_of_anthropics_table_is_read_as_it_says() {
    let text = json!([{"type": "text", "text": "Mars"}]);
    let none = json!([{"type": "thinking", "thinking": "hm"}]);
    assert_eq!(
        claude(&text, "stop_sequence").reply,
        Reply::Text("Mars".to_owned())
    );
    assert_eq!(
        failure(&claude(&none, "end_turn").reply),
        FailureKind::Empty
    );
    assert_eq!(
        failure(&claude(&text, "max_tokens").reply),
        FailureKind::CutOff
    );
    assert_eq!(
        failure(&claude(&text, "model_context_window_exceeded").reply),
        FailureKind::ContextFull
    );
    for other in ["tool_use", "pause_turn", "something_new"] {
        let reply = claude(&text, other).reply;
        assert_eq!(failure(&reply), FailureKind::UnknownStop);
        assert!(format!("{reply:?}").contains(other));
    }
    assert_eq!(
        claude(&json!([]), "refusal").reply,
        Reply::Refused {
            category: "frontier_llm".to_owned(),
            explanation: "no".to_owned()
        }
    );
}

#[test]
fn what_is_no_whole_answer_is_told_apart() {
    let api = Api::anthropic(&AnthropicOptions::default());
    for (body, expected) in [
        ("{\"type\":\"mess", "no JSON"),
        ("<html>hello</html>", "no JSON"),
        ("{}", "`content`"),
        (r#"{"content":[],"stop_reason":"end_turn"}"#, "`usage`"),
    ] {
        let error = api.envelope(body).unwrap_err();
        assert!(error.contains(expected), "{body}: {error}");
    }
    for body in [
        "{}",
        r#"{"choices":[]}"#,
        r#"{"error":{"message":"overloaded"}}"#,
    ] {
        assert!(
            local().envelope(body).unwrap_err().contains("`choices`"),
            "{body}"
        );
    }
}

fn chat(message: &Value, finish: &str) -> Reply {
    let response = json!({"choices": [{"message": message, "finish_reason": finish}]});
    let api = local();
    let envelope = api.envelope(&response.to_string()).unwrap();
    api.read(&json!({"messages": []}), &envelope).reply
}

#[test]
fn every_finish_reason_is_read_as_it_says() {
    let mars = json!({"content": "Mars"});
    assert_eq!(chat(&mars, "stop"), Reply::Text("Mars".to_owned()));
    let parts =
        json!({"content": [{"type": "text", "text": "Ma"}, {"type": "text", "text": "rs"}]});
    assert_eq!(chat(&parts, "stop"), Reply::Text("Mars".to_owned()));
    assert_eq!(failure(&chat(&mars, "length")), FailureKind::CutOff);
    assert_eq!(
        failure(&chat(&mars, "tool_calls")),
        FailureKind::UnknownStop
    );
    assert_eq!(
        failure(&chat(&json!({"content": null}), "stop")),
        FailureKind::Empty
    );
    for (message, finish, category) in [
        (
            json!({"content": null, "refusal": "I can't."}),
            "stop",
            "refusal",
        ),
        (json!({"content": ""}), "content_filter", "content_filter"),
    ] {
        assert!(
            matches!(chat(&message, finish), Reply::Refused { category: found, .. } if found == category)
        );
    }
}

#[test]
fn thinking_is_taken_from_the_beginning_of_a_text_and_from_nowhere_else() {
    let read = |text: &str| chat(&json!({"content": text}), "stop");
    assert_eq!(
        read("\n<think>\nhm\n</think>\n\n Mars\n"),
        Reply::Text(" Mars\n".to_owned())
    );
    for wrong in [
        "<think>hm",
        "hm</think>Mars",
        "Mars <think>hm</think>",
        "<think>a</think>b</think>",
    ] {
        assert_eq!(
            failure(&read(wrong)),
            FailureKind::ThinkingInText,
            "{wrong}"
        );
    }
    assert_eq!(failure(&read("<think>hm</think>\n")), FailureKind::Empty);
}

#[test]
fn a_question_that_the_server_has_cut_is_noticed_by_its_tokens() {
    let words = "The quick brown fox jumps over the lazy dog. ".repeat(500);
    let request = json!({"messages": [{"role": "system", "content": "Edit."}, {"role": "user", "content": words}]});
    let read = |tokens: u64| {
        let response = json!({
            "choices": [{"message": {"content": "Mars"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": tokens, "completion_tokens": 1}
        });
        openai::read(&request, &response).reply
    };
    assert_eq!(failure(&read(2048)), FailureKind::QuestionCut);
    // 5 000 words are about as many tokens.
    assert_eq!(read(5000), Reply::Text("Mars".to_owned()));
}
