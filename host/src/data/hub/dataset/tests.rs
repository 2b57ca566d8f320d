use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::super::testing::{COMMIT, Server, cached, hub};
use super::*;

fn dataset(address: &str) -> Dataset {
    Dataset::parse(address).expect("an address")
}

fn is_data(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|it| it == "jsonl")
}

fn files() -> BTreeMap<String, Vec<u8>> {
    [
        "README.md",
        "data/test.jsonl",
        "data/train-0.jsonl",
        "data/train-1.jsonl",
        "data/more/x.jsonl",
    ]
    .map(|name| {
        (
            name.to_owned(),
            format!("{{\"name\": \"{name}\"}}\n").into_bytes(),
        )
    })
    .into()
}

#[test]
fn an_address_names_a_data_set_and_what_is_read_of_it() {
    let parts = |address: &str| {
        let Dataset {
            repo,
            revision,
            inside,
        } = dataset(address);
        (repo, revision, inside)
    };
    let expected = |repo: &str, revision: &str, inside: &str| {
        (repo.to_owned(), revision.to_owned(), inside.to_owned())
    };
    assert_eq!(parts("hf://datasets/o/n"), expected("o/n", "main", ""));
    assert_eq!(
        parts("hf://datasets/o/n@v1/data/"),
        expected("o/n", "v1", "data")
    );
    assert_eq!(
        parts("hf://datasets/o/n@refs%2Fpr%2F3/a/train-*.parquet"),
        expected("o/n", "refs/pr/3", "a/train-*.parquet")
    );
    assert_eq!(
        dataset("hf://datasets/o/n@v1/data").to_string(),
        "hf://datasets/o/n@v1/data"
    );
    for wrong in [
        "hf://o/n",
        "hf://datasets/o",
        "hf://datasets/../n",
        "hf://datasets/o/n/../x",
        "hf://datasets/o/n/*/*",
    ] {
        let error = Dataset::parse(wrong).expect_err(wrong);
        assert_eq!(error.exit_code(), 2);
        assert!(
            error.to_string().contains("hf://datasets/ORG/NAME"),
            "{error}"
        );
    }
}

#[test]
fn files_folders_and_patterns_are_downloaded_once() -> Result<()> {
    let cache = tempfile::tempdir().expect("a folder");
    let server = Server::start(files());
    let online = hub(cache.path(), &server.endpoint, false);
    let read = |inside: &str| -> Result<(Vec<String>, bool)> {
        let (paths, one) =
            dataset(&format!("hf://datasets/org/name/{inside}")).files(&online, is_data)?;
        let texts = paths
            .iter()
            .map(|path| fs::read_to_string(path).expect("a file"));
        let names = texts.map(|text| text.split('"').nth(3).expect("a name").to_owned());
        Ok((names.collect(), one))
    };
    let train = ["data/train-0.jsonl", "data/train-1.jsonl"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(read("data/train-*.jsonl")?, (train.clone(), false));
    assert_eq!(read("data/train-1.jsonl")?, (train[1..].to_vec(), true));
    let downloads = |asked: Vec<String>| {
        asked
            .iter()
            .filter(|path| path.contains("/resolve/"))
            .count()
    };
    let once = downloads(server.asked());
    assert_eq!(read("data/train-0.jsonl")?, (train[..1].to_vec(), true));
    assert_eq!(downloads(server.asked()), once, "it was there");
    let mut all = vec!["data/test.jsonl".to_owned()];
    all.extend(train);
    assert_eq!(read("data")?, (all, false));
    Ok(())
}

#[test]
fn a_cached_file_needs_no_network_and_a_folder_does() -> Result<()> {
    let cache = tempfile::tempdir().expect("a folder");
    let one: BTreeMap<_, _> = [("a.jsonl".to_owned(), b"{}".to_vec())].into();
    cached(cache.path(), "datasets--org--name", &one);
    let offline = hub(cache.path(), "http://127.0.0.1:1", true);
    for at in ["", &format!("@{COMMIT}")] {
        let (paths, one) =
            dataset(&format!("hf://datasets/org/name{at}/a.jsonl")).files(&offline, is_data)?;
        assert_eq!(
            (fs::read(&paths[0]).expect("a file"), one),
            (b"{}".to_vec(), true)
        );
    }
    let error = dataset("hf://datasets/org/name")
        .files(&offline, is_data)
        .expect_err("no list");
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    Ok(())
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let cache = tempfile::tempdir().expect("a folder");
    let server = Server::start(files());
    let online = hub(cache.path(), &server.endpoint, false);
    for inside in ["", "/data/valid.jsonl", "/README.txt", "/dat*/x"] {
        let wrong = dataset(&format!("hf://datasets/org/name{inside}"));
        let error = wrong
            .files(&online, is_data)
            .expect_err("nothing")
            .to_string();
        assert!(
            error.contains("4 files that are: ") && error.contains("data/train-1.jsonl"),
            "{error}"
        );
    }
    let error = dataset("hf://datasets/org/other")
        .files(&online, is_data)
        .expect_err("no data set");
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains(&server.endpoint), "{error}");
}
