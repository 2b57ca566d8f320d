//! Judges of the command: a calibration against known preferences, with and without a server, and a panel in a comparison.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should fail where it stands"
)]

mod common;

use std::fs;
use std::path::Path;

use common::{TINY, finegrain, refused, stages, variant};
use finegrain_model_server::testing::{self, Act, TestServer};
use serde_json::{Value, json};

/// Topics of the sandbox's language, and a noun of each.
const SUBJECTS: [(&str, &str); 7] = [
    ("sea", "wave"),
    ("sky", "cloud"),
    ("garden", "rose"),
    ("forest", "oak"),
    ("kitchen", "kettle"),
    ("farm", "barn"),
    ("school", "teacher"),
];

/// Pairs in the sandbox's language, two about each prompt. The rubric knows that the verb of the first one is right, and people
/// say so in three of four; every tenth of them cannot say. The right one is the longer one.
fn pairs(n: usize) -> String {
    let row = |i: usize| {
        let (topic, subject) = SUBJECTS[i / 2 % 7];
        let preference = match i {
            _ if i % 10 == 9 => 1.5,
            _ if i % 4 == 3 => 2.0,
            _ => 1.0,
        };
        json!({
            "question": format!("write one point of care from the kind {topic} to the grand city"),
            "answers": [
                format!("first the gentle {subject} helps a mighty bridge ."),
                format!("first the gentle {subject} help a mighty bridge ."),
            ],
            "label": preference,
        })
        .to_string()
            + "\n"
    };
    (0..n).map(row).collect()
}

const FIELDS: [&str; 8] = [
    "--field",
    "prompt=question",
    "--field",
    "first=answers.0",
    "--field",
    "second=answers.1",
    "--field",
    "preference=label",
];

/// A folder with pairs and a configuration.
struct Place(tempfile::TempDir);

impl Place {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("pairs.jsonl"), pairs(40)).unwrap();
        fs::write(dir.path().join("judge.toml"), config).unwrap();
        Self(dir)
    }

    fn at(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// `finegrain judge calibrate` on the pairs.
    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let (config, data, store) = (self.at("judge.toml"), self.at("pairs.jsonl"), self.at("s"));
        let mut args = vec![
            "judge",
            "calibrate",
            &config,
            "--data",
            &data,
            "--store",
            &store,
        ];
        args.extend(FIELDS);
        args.extend(more);
        args.into_iter().map(str::to_owned).collect()
    }

    /// What it prints, and what it says on standard error.
    fn calibrate(&self, more: &[&str]) -> (String, String) {
        let args = self.arguments(more);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = finegrain(&args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        (String::from_utf8(output.stdout).unwrap(), said)
    }

    fn calibrate_json(&self, more: &[&str]) -> Value {
        let (printed, _) = self.calibrate(&[more, &["--json"]].concat());
        serde_json::from_str(&printed).unwrap()
    }
}

#[test]
fn a_judge_is_held_against_known_preferences_and_against_what_is_longer() {
    let place = Place::new("");
    let (table, said) = place.calibrate(&[]);
    for words in [
        "pairs: 36 of 40 rows of",
        "layout fields",
        "rows that are left out: 4 tie",
    ] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    let found = place.calibrate_json(&["--out", &place.at("judged.jsonl")]);
    // Rows 3, 7, 11, … 35 of those that are no ties prefer the wrong one, and 19 and 39 are ties: 8 of 36.
    let judge = &found["judges"][0];
    let near = |value: &Value, known: f64| (value.as_f64().unwrap() - known).abs() < 1e-12;
    assert_eq!(
        (&found["judge"], &found["ties"]),
        (&json!("rubric"), &json!(4))
    );
    assert_eq!(
        (&found["pairs"], &found["prompts"]),
        (&json!(36), &json!(7))
    );
    assert!(near(&judge["agreement"]["value"], 28.0 / 36.0), "{judge}");
    assert!(near(&judge["longer_wins"]["value"], 28.0 / 36.0), "{judge}");
    assert!(near(&judge["above_longer_wins"]["value"], 0.0), "{judge}");
    assert_eq!(judge["rates"]["n"], 36);
    assert!(near(&judge["rates"]["flips"]["value"], 0.0));
    assert!(near(&judge["rates"]["first_position"]["value"], 0.5));
    assert!(near(&judge["rates"]["longer_preferred"]["value"], 1.0));
    for words in [
        "known preferences of 36 pairs about 7 prompts",
        "77.8 [",
        // Judge and length differ on no prompt, which says nothing of others: no interval.
        "  0.0\n",
        "always the first",
        "How the judge judged",
    ] {
        assert!(table.contains(words), "no {words:?} in\n{table}");
    }
    let judged = fs::read_to_string(place.0.path().join("judged.jsonl")).unwrap();
    assert_eq!(judged.lines().count(), 36);
    let first: Value = serde_json::from_str(judged.lines().next().unwrap()).unwrap();
    assert!(first["chosen"].as_str().unwrap().contains("helps"));
    assert_eq!(first["outcome"]["verdicts"], json!([1.0, 1.0]));

    assert_eq!(
        stages(Path::new(&place.at("s")), "judge_calibration").len(),
        1
    );
    let few = place.calibrate_json(&["--n", "10"]);
    assert_eq!(few["pairs"], 10);
    let (plan, _) = place.calibrate(&["--n", "10", "--dry-run"]);
    assert_eq!(
        plan,
        "rubric would be asked for 20 comparisons: 10 pairs in both orders.\n"
    );
}

#[test]
fn what_cannot_be_asked_is_refused_with_what_is_accepted() {
    let place = Place::new("");
    let wrong = |more: &[&str], words: &[&str]| {
        let args = place.arguments(more);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        refused(&args, 2, words);
    };
    wrong(
        &["--field", "chosn=a"],
        &[
            "--field chosn=a",
            "accepted: prompt, input",
            "did you mean chosen?",
        ],
    );
    wrong(&["--field", "id"], &["--field id", "NAME=PATH"]);
    wrong(&["--field", "prompt=x"], &["prompt was named before"]);
    wrong(
        &["--set", "judge.use=panel"],
        &["judge.panel: 0 judges are named", "two or more"],
    );
    wrong(
        &["--set", "judge.use=nobody"],
        &["no judge plugin is called nobody"],
    );
}

/// A server of OpenAI's chat completions that prefers the first response, whatever it is.
fn always_first() -> TestServer {
    TestServer::start(|_| {
        let verdict = json!({"reason": "it stands first", "verdict": "A"}).to_string();
        Act::reply(200, testing::openai("m", &verdict, "stop").to_string())
    })
    .unwrap()
}

#[test]
fn a_panel_asks_a_server_once_for_each_question_and_says_how_its_judges_agree() {
    let server = always_first();
    let address = format!("{}/v1", server.url());
    let place = Place::new(&format!(
        "[judge]\nuse = \"panel\"\npanel = [{{ use = \"rubric\" }}, {{ use = \"openai\", name = \"first\", options = {{ model = \
         \"m\", base_url = \"{address}\" }} }}]"
    ));
    let found = place.calibrate_json(&[]);
    let names: Vec<&Value> = found["judges"].as_array().unwrap().iter().collect();
    let names: Vec<&Value> = names.iter().map(|judge| &judge["judge"]).collect();
    assert_eq!(names, ["panel", "rubric", "first"]);
    assert_eq!(found["judge"], "a panel of rubric and first");
    let first = &found["judges"][2];
    assert_eq!(first["agreement"]["value"], 0.5);
    assert_eq!(first["rates"]["flips"]["value"], 1.0);
    assert_eq!(first["rates"]["first_position"]["value"], 1.0);
    // One says always a win or a loss, the other always a tie: no more than chance.
    let agreement = &found["agreements"][0];
    assert_eq!(
        (&agreement["n"], &agreement["kappa"]["value"]),
        (&json!(36), &json!(0.0))
    );
    assert_eq!(agreement["same"]["value"], 0.0);
    // Equal pairs about a prompt are one question to the server: seven prompts, two orders.
    let asked = server.count();
    assert_eq!(asked, 14);

    let again = place.calibrate_json(&[]);
    assert_eq!(again, found);
    // Neither do answers go with the stage.
    fs::remove_dir_all(place.at("s/judge_calibration")).unwrap();
    assert_eq!(place.calibrate_json(&[]), found);
    assert_eq!(server.count(), asked, "asked again");
    let (table, _) = place.calibrate(&[]);
    // A point is no interval.
    let agreement = table
        .lines()
        .find(|line| line.starts_with("rubric and first"));
    assert!(agreement.unwrap().contains(" 0.00  "), "{table}");
}

#[test]
fn a_comparison_by_a_panel_shows_every_judge_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let config = variant(
        dir.path(),
        "name = \"mine\"\n[judge]\nuse = \"panel\"\npanel = [{ use = \"rubric\" }, { use = \"rubric\", name = \"lenient\", \
         options = { margin = 100.0 } }]\n",
    );
    let (out, store) = (place("out"), place("store"));
    let mut args = vec![
        "run",
        config.to_str().unwrap(),
        "--quiet",
        "--out",
        &out,
        "--store",
        &store,
    ];
    for set in &TINY {
        args.extend(["--set", set]);
    }
    let output = finegrain(&args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let table = String::from_utf8(output.stdout).unwrap();
    for words in [
        "judged by a panel of rubric and lenient in both orders",
        "How the judge judged",
        "Win rate by each judge of the panel",
        "Agreement between the judges of the panel",
        "rubric and lenient",
    ] {
        assert!(table.contains(words), "no {words:?} in\n{table}");
    }
    let read = |name: &str| fs::read_to_string(dir.path().join("out").join(name)).unwrap();
    let result: Value = serde_json::from_str(&read("result.json")).unwrap();
    let judging = &result["judging"];
    let rate = |of: &Value| of["win_rate"]["overall"]["value"].as_f64().unwrap();
    assert_eq!(judging["judges"].as_array().unwrap().len(), 3);
    // Whatever is no more than the margin apart is a tie.
    assert_eq!(judging["members"][1]["judge"], "lenient");
    assert_eq!(rate(&judging["members"][1]), 0.5);
    let mean = f64::midpoint(rate(&judging["members"][0]), 0.5);
    assert!((rate(&result["win_rates"][0]) - mean).abs() < 1e-12);
    let report = read("report.html");
    for words in ["How the judge judged", "Agreement between the judges"] {
        assert!(report.contains(words), "no {words:?}");
    }
    let samples = read("samples.jsonl");
    let asked: Vec<Value> = samples
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["outcome"].clone())
        .filter(|outcome| outcome["identical"] == false)
        .collect();
    assert!(!asked.is_empty());
    for outcome in asked {
        assert_eq!(outcome["members"].as_array().unwrap().len(), 2, "{outcome}");
    }

    // Another member is another judge: what was judged is judged again, and nothing before it runs again.
    let count = |stage: &str| stages(&dir.path().join("store"), stage).len();
    assert_eq!((count("evaluate"), count("ppo")), (1, 1));
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("100.0", "0.5")).unwrap();
    let output = finegrain(&args);
    assert!(output.status.success());
    assert_eq!((count("evaluate"), count("sft")), (2, 1));
}
