//! The look before the first question.

use std::sync::atomic::{AtomicUsize, Ordering};

use finegrain_model_server::options::ServerOptions;
use finegrain_model_server::testing::{Act, TestServer, anthropic_error, openai_error};
use finegrain_sdk::serde_json::json;

use crate::support::{self, MODEL, call, chat, chats, claude, says};

/// A server that answers what is looked up with an act.
fn start(look: Act) -> TestServer {
    TestServer::start_for_all(move |seen| {
        match (&*seen.method, seen.path.ends_with("completions")) {
            ("GET", _) => look.clone(),
            (_, true) => chats("yes"),
            _ => says("yes"),
        }
    })
    .unwrap()
}

/// Options with a model of their own: what was looked up is known to the whole process, and a port is taken again.
fn options(server: &TestServer) -> ServerOptions {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    ServerOptions {
        model: format!("{MODEL}-{}", NUMBER.fetch_add(1, Ordering::Relaxed)),
        ..support::options(server)
    }
}

fn sent(server: &TestServer, method: &str) -> usize {
    let all = server.requests();
    all.iter().filter(|seen| seen.method == method).count()
}

#[test]
fn a_wrong_key_ends_the_call_with_nothing_sent() {
    for status in [401, 403] {
        let body = anthropic_error("authentication_error", "invalid x-api-key");
        let server = start(Act::reply(status, body));
        for server in [claude(&options(&server)), chat(&options(&server))] {
            let called = call(&server, 3, None);
            assert!(
                called.error().contains("refuses the key"),
                "{}",
                called.error()
            );
            assert!(called.error().contains("invalid x-api-key"));
        }
        assert_eq!((sent(&server, "GET"), sent(&server, "POST")), (2, 0));
    }
}

#[test]
fn a_key_that_may_not_list_models_may_ask_all_the_same() {
    let body = openai_error(
        "invalid_request_error",
        "",
        None,
        "You have insufficient permissions for this operation. Missing scopes: api.model.read.",
    );
    for status in [401, 403] {
        let server = start(Act::reply(status, body.clone()));
        // No such thing is known of the other API.
        let called = call(&claude(&options(&server)), 3, None);
        assert!(
            called.error().contains("refuses the key"),
            "{}",
            called.error()
        );
        assert_eq!(call(&chat(&options(&server)), 3, None).settled.len(), 3);
    }
}

#[test]
fn a_model_that_is_not_there_ends_the_call_with_its_name() {
    let server = start(Act::reply(
        404,
        anthropic_error("not_found_error", "model: test-model"),
    ));
    let options_of_claude = options(&server);
    let model = &options_of_claude.model;
    let called = call(&claude(&options_of_claude), 3, None);
    assert!(
        called
            .error()
            .contains(&format!("knows no model {model:?}")),
        "{}",
        called.error()
    );
    assert_eq!(sent(&server, "POST"), 0);
    assert_eq!(server.requests()[0].path, format!("/v1/models/{model}"));
    // Of OpenAI's API, the list is asked for, and that there is none is no error.
    assert_eq!(call(&chat(&options(&server)), 3, None).settled.len(), 3);
}

#[test]
fn servers_that_have_no_such_look_up_are_asked_all_the_same() {
    for act in [
        Act::reply(404, "{}"),
        Act::reply(
            404,
            r#"{"error":{"code":404,"message":"File Not Found","type":"not_found_error"}}"#,
        ),
        Act::reply(405, ""),
        Act::reply(500, "oops"),
        Act::reply(429, "slow"),
        Act::reply(200, "<html>hello</html>"),
        Act::Reset,
        Act::Garbage,
    ] {
        let server = start(act);
        for server in [claude(&options(&server)), chat(&options(&server))] {
            assert_eq!(call(&server, 3, None).settled.len(), 3);
        }
    }
}

#[test]
fn a_list_without_the_model_is_a_warning_where_servers_load_what_they_do_not_list() {
    let list = |name: &str| json!({"object": "list", "data": [{"id": name}]}).to_string();
    for (name, warned) in [("other-model", true), (MODEL, false)] {
        let server = start(Act::reply(200, list(name)));
        let mut options = options(&server);
        if !warned {
            name.clone_into(&mut options.model);
        }
        let called = call(&chat(&options), 3, None);
        assert_eq!(called.settled.len(), 3);
        let model = &options.model;
        let says = |line: &String| {
            line.contains(&format!(
                "does not list the model {model:?}, but other-model"
            ))
        };
        assert_eq!(called.log.iter().any(says), warned, "{:?}", called.log);
    }
}

#[test]
fn it_is_looked_once_a_process_for_every_address_and_name_and_not_where_all_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(Act::reply(200, "{}"));
    let claude_of = |model: &str| {
        claude(&ServerOptions {
            model: model.to_owned(),
            ..options(&server)
        })
    };
    call(&claude_of("a"), 1, Some(dir.path()));
    call(&claude_of("a"), 3, Some(dir.path()));
    assert_eq!((sent(&server, "GET"), sent(&server, "POST")), (1, 3));
    call(&claude_of("b/c"), 1, None);
    let looked: Vec<String> = server
        .requests()
        .into_iter()
        .map(|seen| seen.path)
        .collect();
    assert!(
        looked.contains(&"/v1/models/b%2Fc".to_owned()),
        "{looked:?}"
    );

    // With all answers kept, the server may be gone.
    let url = server.url();
    drop(server);
    let gone = claude(&ServerOptions {
        model: "a".to_owned(),
        base_url: url,
        ..ServerOptions::default()
    });
    assert_eq!(call(&gone, 3, Some(dir.path())).settled.len(), 3);
}
