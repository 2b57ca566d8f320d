//! A client that is killed in the middle, three times, and started again.
//!
//! `FINEGRAIN_REQUESTS` says how many rows, 1000 where it is not set.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use finegrain_model_server::answers::Folder;
use finegrain_model_server::options::ServerOptions;
use finegrain_model_server::testing::{Act, Seen, TestServer, anthropic_error};
use finegrain_model_server::{End, Usd};
use finegrain_sdk::serde_json::{self, Value, json};

use crate::money::{ANSWER, prices};
use crate::support::{MODEL, call, claude, says, stops};

const URL: &str = "FINEGRAIN_KILLED_URL";
const FOLDER: &str = "FINEGRAIN_KILLED_FOLDER";
const ROWS: &str = "FINEGRAIN_KILLED_ROWS";
const BUDGET: &str = "FINEGRAIN_KILLED_BUDGET";
const KEY: &str = "sk-test-9876543210zyxwvutsrqponmlkjihgfedcba";
const AT_ONCE: u32 = 64;

/// A number in 0..1000 that a request has for good.
fn draw(seen: &Seen) -> u64 {
    // FNV-1a over the question and how often it came.
    seen.text()
        .bytes()
        .chain(seen.again.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
        .rotate_left(23)
        % 1000
}

/// A fifth of all requests comes to grief; 1% of rows are rejected and 1% refused, however often they come.
fn behave(seen: &Seen) -> Act {
    let row: u64 = seen.text().trim_start_matches("question ").parse().unwrap();
    if row % 100 == 7 {
        return Act::reply(
            400,
            anthropic_error("invalid_request_error", "not this one"),
        );
    }
    if row % 100 == 8 {
        return stops("", "refusal");
    }
    let answer = says(&format!("answer {row}"));
    let act = match draw(seen) {
        0..30 => Act::Reset,
        30..50 => Act::Close,
        50..80 => match answer {
            Act::Reply { body, .. } => Act::Cut(body),
            other => other,
        },
        80..90 => Act::reply(200, "<html>Please log in</html>"),
        90..100 => Act::Garbage,
        100..130 => Act::reply(500, anthropic_error("api_error", "oops")),
        130..170 => Act::reply(529, anthropic_error("overloaded_error", "Overloaded")),
        170..190 => Act::reply(502, "<html>Bad gateway</html>"),
        190..200 => Act::reply(429, anthropic_error("rate_limit_error", "slow"))
            .with("retry-after-ms", "20"),
        _ => answer,
    };
    Act::After(Duration::from_millis(10), Box::new(act))
}

/// What a server would put on the bill: everything that it has worked on, seen or not.
fn bill(requests: &[Seen]) -> Usd {
    let billed = requests.iter().filter(|seen| {
        let row: u64 = seen.text().trim_start_matches("question ").parse().unwrap();
        let draw = draw(seen);
        row % 100 == 8 || (row % 100 != 7 && !(100..200).contains(&draw))
    });
    Usd::from_pico(ANSWER.pico() * billed.count() as u64)
}

fn start(server: &TestServer, folder: &Path, rows: usize, budget: f64) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "killed::child", "--ignored", "--nocapture"])
        .env("FINEGRAIN_KILLED_KEY", KEY)
        .env(URL, server.url())
        .env(FOLDER, folder)
        .env(ROWS, rows.to_string())
        .env(BUDGET, budget.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// What a child that came to its end has said.
fn finish(mut child: Child, folder: &Path) -> Value {
    assert!(child.wait().unwrap().success());
    let text = fs::read_to_string(folder.join("result.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The questions whose answers are kept.
fn kept(folder: &Path) -> BTreeSet<String> {
    let Ok(folder) = Folder::open(&folder.join("answers")) else {
        return BTreeSet::new();
    };
    let entries = folder.list().unwrap();
    let texts = entries.iter().map(|entry| {
        let text = entry.record.request["messages"][0]["content"].as_str();
        text.unwrap().to_owned()
    });
    texts.collect()
}

#[test]
fn every_row_ends_once_nothing_kept_is_sent_again_and_the_budget_holds() {
    let rows: usize = env::var("FINEGRAIN_REQUESTS").map_or(1000, |rows| rows.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let server = TestServer::start(behave).unwrap();
    let begun = Instant::now();
    // Enough for some three quarters of what it takes: the lost answers count at their worst, those of kills too.
    let budget = 0.1 + rows as f64 * 0.000_27;
    let mut marks = Vec::new();
    for part in [1, 2, 3] {
        let mut child = start(&server, folder, rows, budget);
        while server.count() < rows * part * 15 / 100 {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the child ended by itself: {status}");
            }
            thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What was under way is at its end, on the server too.
        thread::sleep(Duration::from_millis(100));
        marks.push((server.count(), kept(folder)));
    }
    // With this budget it does not come to an end,
    let result = finish(start(&server, folder, rows, budget), folder);
    assert!(
        result["error"].as_str().unwrap().contains("budget"),
        "{result}"
    );
    let billed = bill(&server.requests());
    assert!(billed <= Usd::from_dollars(budget), "{billed} of {budget}");
    marks.push((server.count(), kept(folder)));
    // and with a larger one it does.
    let result = finish(start(&server, folder, rows, budget * 100.0), folder);
    assert_eq!(result["error"], Value::Null, "{result}");
    let requests = server.requests();
    let mut ends = BTreeMap::<String, usize>::new();
    for row in 0..rows {
        let end = result["ends"][row.to_string()].as_str().unwrap();
        match row % 100 {
            7 => assert_eq!(end, "failed: rejected"),
            8 => assert_eq!(end, "refused"),
            _ if end.starts_with("failed: ") => {}
            _ => assert_eq!(end, format!("text: answer {row}")),
        }
        *ends
            .entry(end.split(": ").next().unwrap().to_owned())
            .or_default() += 1;
        if let Some(kind) = end.strip_prefix("failed: ") {
            *ends.entry(kind.to_owned()).or_default() += 1;
        }
    }
    assert_eq!(result["ends"].as_object().unwrap().len(), rows);
    for (count, kept) in &marks {
        let again = requests[*count..]
            .iter()
            .find(|seen| kept.contains(seen.text()));
        assert!(again.is_none(), "was kept and sent again: {again:?}");
    }
    let folder_of_answers = Folder::open(&folder.join("answers")).unwrap();
    let verified = folder_of_answers.verify().unwrap();
    assert_eq!(
        (verified.surplus, verified.damaged.len()),
        (0, 0),
        "{verified:?}"
    );
    assert!(
        server.most_under_way() <= AT_ONCE as usize,
        "{}",
        server.most_under_way()
    );
    no_key_in(folder);
    // A third time, nothing but what failed is asked.
    let before = server.count();
    let failed = ends.get("failed").copied().unwrap_or(0);
    let result = finish(start(&server, folder, rows, budget * 100.0), folder);
    assert_eq!(result["kept"], rows - failed);
    let sent = server.count() - before;
    eprintln!(
        "{rows} rows, {} requests in {:.1} s; {ends:?}; {} kept, {} lost, billed {billed} of ${budget:.4} before the larger \
         budget, {} in all; at most {} under way; {sent} requests for {failed} failed rows afterwards; kills at {:?}",
        requests.len(),
        begun.elapsed().as_secs_f64(),
        verified.sound,
        verified.lost,
        bill(&requests),
        server.most_under_way(),
        marks.iter().map(|(count, _)| count).collect::<Vec<_>>(),
    );
}

fn no_key_in(folder: &Path) {
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for part in 0..KEY.len() - 16 {
                assert!(!text.contains(&KEY[part..part + 16]), "{}", path.display());
            }
        }
    }
}

#[test]
#[ignore = "the child of the test above, which kills it"]
fn child() {
    let Ok(url) = env::var(URL) else {
        eprintln!("skipped: {URL} is not set, for this is no child of the test above");
        return;
    };
    let number = |name: &str| env::var(name).unwrap().parse::<f64>().unwrap();
    let folder = PathBuf::from(env::var(FOLDER).unwrap());
    let server = claude(&ServerOptions {
        model: MODEL.to_owned(),
        base_url: url,
        api_key_env: "FINEGRAIN_KILLED_KEY".to_owned(),
        concurrency: AT_ONCE,
        max_tokens: 64,
        prices: Some(prices(&folder)),
        budget_usd: Some(number(BUDGET)),
        ..ServerOptions::default()
    });
    let called = call(
        &server,
        number(ROWS) as usize,
        Some(&folder.join("answers")),
    );
    let ends: BTreeMap<String, String> = called
        .settled
        .iter()
        .map(|(row, settled)| {
            let end = match &settled.end {
                End::Text(text) => format!("text: {text}"),
                End::Refused { .. } => "refused".to_owned(),
                End::Failed(failure) => format!("failed: {}", failure.kind.name()),
            };
            (row.to_string(), end)
        })
        .collect();
    let kept = called.settled.values().filter(|settled| {
        let mut tries = settled.tries.iter();
        !settled.tries.is_empty() && tries.all(|answer| answer.kept)
    });
    let result = json!({
        "ends": ends,
        "kept": kept.count(),
        "error": called.summary.as_ref().err().map(|error| error.message.clone()),
        "log": called.log,
    });
    fs::write(folder.join("result.json"), result.to_string()).unwrap();
}
