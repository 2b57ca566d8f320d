//! The key goes into one header and nowhere else.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use finegrain_model_server::Step;
use finegrain_model_server::options::ServerOptions;
use finegrain_model_server::testing::{Act, TestServer, anthropic_error};

use crate::support::{MODEL, call, call_with, chat, claude, says};

const KEY: &str = "sk-test-0123456789abcdefghijklmnopqrstuvwxyz";
/// Where the child finds the address of the server and its folder.
const URL: &str = "FINEGRAIN_SECRET_URL";
const FOLDER: &str = "FINEGRAIN_SECRET_FOLDER";

/// A server that repeats the key wherever it can.
fn indiscreet() -> TestServer {
    TestServer::start(|seen| {
        let key = seen
            .headers
            .get("x-api-key")
            .or(seen.headers.get("authorization"));
        let key = key.cloned().unwrap_or_default();
        match seen.text() {
            "question 0" => Act::reply(400, anthropic_error("invalid_request_error", &key)),
            "question 1" => Act::reply(200, format!("no JSON, but {key}")),
            "question 2" if seen.again == 0 => Act::Reset,
            "question 3" => Act::reply(413, format!("<html>{key}</html>")).with("request-id", key),
            "question 4" => says(&format!("your key is {key}")),
            "question 9" => Act::reply(401, anthropic_error("authentication_error", &key)),
            _ => says("Mars"),
        }
    })
    .unwrap()
}

#[test]
fn the_key_is_in_no_file_message_debug_output_or_log_line() {
    let dir = tempfile::tempdir().unwrap();
    let server = indiscreet();
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "secret::child", "--ignored", "--nocapture"])
        .env("FINEGRAIN_SECRET_KEY", KEY)
        .env(URL, server.url())
        .env(FOLDER, dir.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let requests = server.requests();
    assert!(
        requests
            .iter()
            .any(|seen| seen.headers.get("x-api-key").is_some_and(|key| key == KEY))
    );
    let bearer = format!("Bearer {KEY}");
    assert!(
        requests
            .iter()
            .any(|seen| seen.headers.get("authorization") == Some(&bearer))
    );
    let mut texts = vec![output.stdout, output.stderr];
    read_all(dir.path(), &mut texts);
    let log = String::from_utf8(texts.concat()).unwrap();
    assert!(log.contains("ureq"), "the HTTP client's own log is there");
    assert!(
        !log.contains("TRACE "),
        "at TRACE the head of a request would be printed"
    );
    assert!(
        log.contains("[key]"),
        "what the server repeated is there, without the key"
    );
    for piece in pieces() {
        for text in &texts {
            let found = text.windows(piece.len()).any(|window| window == piece);
            assert!(!found, "{}", String::from_utf8_lossy(&piece));
        }
    }
}

/// Parts of the key as dumps print them: rows of 16 bytes, wherever they begin, and eight bytes in hexadecimal digits.
fn pieces() -> Vec<Vec<u8>> {
    let bytes = KEY.as_bytes();
    let hex = |bytes: &[u8], between: &str| {
        let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        digits.join(between).into_bytes()
    };
    let rows = bytes.windows(16).map(<[u8]>::to_vec);
    let plain = bytes.windows(8).map(|part| hex(part, ""));
    let spaced = bytes.windows(8).map(|part| hex(part, " "));
    rows.chain(plain).chain(spaced).collect()
}

fn read_all(folder: &Path, texts: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, texts);
        } else {
            texts.push(fs::read(path).unwrap());
        }
    }
}

/// Writes every line of every crate's log into a file.
struct Everything(Mutex<File>);

impl log::Log for Everything {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut file = self.0.lock().unwrap();
        writeln!(
            file,
            "{} {}: {}",
            record.level(),
            record.target(),
            record.args()
        )
        .unwrap();
    }

    fn flush(&self) {}
}

#[test]
#[ignore = "the child of the test above, which has a key in its environment"]
fn child() {
    let (Ok(url), Ok(folder)) = (env::var(URL), env::var(FOLDER)) else {
        eprintln!("skipped: {URL} is not set, for this is no child of the test above");
        return;
    };
    let folder = Path::new(&folder);
    let file = File::create(folder.join("log.txt")).unwrap();
    log::set_logger(Box::leak(Box::new(Everything(Mutex::new(file))))).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let options = ServerOptions {
        model: MODEL.to_owned(),
        base_url: url,
        api_key_env: "FINEGRAIN_SECRET_KEY".to_owned(),
        concurrency: 1,
        ..ServerOptions::default()
    };
    let server = claude(&options);
    server.check_key().unwrap();
    let cancel = AtomicBool::new(false);
    let called = call_with(
        &server,
        10,
        Some(&folder.join("answers")),
        &cancel,
        |row, tries| {
            assert!(row != 5, "about row 5: {tries:?}");
            Step::Done
        },
    );
    assert!(called.summary.is_err() && called.settled.len() == 9);
    println!("{called:?} {server:?}");
    println!(
        "{:?}",
        call(&chat(&options), 1, Some(&folder.join("chats")))
    );
}
