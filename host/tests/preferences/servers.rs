//! Editor and judge behind a model server: what is asked once is not asked again, whatever else changes.

use std::path::Path;

use finegrain_model_server::testing::{self, Act, Seen, TestServer};

use super::*;

/// The text between two marks of a question.
fn between<'a>(text: &'a str, open: &str, close: &str) -> &'a str {
    let rest = text.split_once(open).unwrap().1;
    rest.split_once(close).unwrap().0
}

/// What stands in a block of the question, whose tags carry a mark: `<NAME-abc123>`.
fn block<'a>(text: &'a str, name: &str) -> &'a str {
    let mark = between(text, &format!("<{name}-"), ">");
    between(
        text,
        &format!("<{name}-{mark}>\n"),
        &format!("\n</{name}-{mark}>"),
    )
}

fn is_edit(seen: &Seen) -> bool {
    let system = seen.body["messages"][0]["content"].as_str().unwrap();
    system.starts_with("You edit responses")
}

/// A model that mends one fault, and prefers the response that has it less often.
fn answer(seen: &Seen) -> Act {
    if !seen.path.ends_with("/chat/completions") {
        return Act::reply(404, "");
    }
    let text = seen.text();
    let said = if is_edit(seen) {
        let mark = between(text, "<edited-", ">");
        let edited = block(text, "response").replacen(" help a ", " helps a ", 1);
        format!("<edited-{mark}>\n{edited}\n</edited-{mark}>")
    } else {
        let faults = |name| block(text, name).matches(" help ").count();
        let verdict = match faults("response-a").cmp(&faults("response-b")) {
            std::cmp::Ordering::Less => "A",
            std::cmp::Ordering::Equal => "tie",
            std::cmp::Ordering::Greater => "B",
        };
        json!({"reason": "faults were counted", "verdict": verdict}).to_string()
    };
    Act::reply(200, testing::openai("model", &said, "stop").to_string())
}

/// How often the server was asked for an edit, and for a verdict.
fn asked(server: &TestServer) -> (usize, usize) {
    let requests = server.requests();
    let asked: Vec<&Seen> = requests
        .iter()
        .filter(|seen| seen.path.ends_with("/chat/completions"))
        .collect();
    let edits = asked.iter().filter(|seen| is_edit(seen)).count();
    (edits, asked.len() - edits)
}

fn compare(dir: &Path, url: &str, out: &str, sets: &[&str]) -> Value {
    let mut args = arguments(dir, "compare", out);
    args.retain(|arg| !arg.starts_with("editor.options.path="));
    // What stood in front of the key that is gone.
    let lone = args
        .windows(2)
        .position(|two| two[0] == "--set" && two[1] == "--set")
        .unwrap();
    args.remove(lone);
    let server = format!("options={{ model = \"model\", base_url = \"{url}/v1\" }}");
    for set in [
        "editor.use=openai",
        "judge.use=openai",
        &format!("editor.{server}"),
        &format!("judge.{server}"),
    ] {
        args.extend(["--set".to_owned(), set.to_owned()]);
    }
    for set in sets {
        args.extend(["--set".to_owned(), (*set).to_owned()]);
    }
    args.push("--json".into());
    args.push(configs("preferences/fine-ppo.toml"));
    call(&args).0
}

#[test]
fn a_new_seed_or_alignment_asks_for_no_edit_again_and_a_gone_server_is_no_matter() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir);
    let server = TestServer::start(answer).unwrap();
    let url = server.url();
    let first = compare(dir, &url, "a", &[]);
    let (edits, verdicts) = asked(&server);
    let [stage] = &stages(&dir.join("store"), "edits")[..] else {
        panic!("one edits stage")
    };
    let rows = ["answers_train.jsonl", "answers_held_out.jsonl"].map(|name| {
        fs::read_to_string(stage.join(name))
            .unwrap()
            .lines()
            .count()
    });
    assert_eq!(edits, rows[0] + rows[1], "each row is asked about once");
    assert!(edits >= 16 && verdicts > 0, "{edits} {verdicts}");

    compare(dir, &url, "b", &["seed=2"]);
    assert_eq!(asked(&server).0, edits, "a new seed edits the same rows");
    compare(dir, &url, "c", &["alignment.max_changed=0.9"]);
    assert_eq!(
        asked(&server).0,
        edits,
        "another alignment reads the same edits"
    );
    // Three stages of one set of answers.
    assert_eq!(stages(&dir.join("store"), "edits").len(), 3);

    // Everything is computed anew but what was paid for, and nobody is there to ask.
    let before = asked(&server);
    drop(server);
    for stage in ["edits", "ppo", "evaluate"] {
        fs::remove_dir_all(dir.join("store").join(stage)).unwrap();
    }
    let replay = ["editor.options.replay=true", "judge.options.replay=true"];
    let again = compare(dir, &url, "d", &replay);
    assert_eq!(again["win_rates"], first["win_rates"]);
    assert!(before.1 > verdicts, "other policies were judged");
}
