use std::collections::BTreeMap;
use std::path::Path;

use super::super::write::save_sharded;
use super::*;
use crate::data::hub::testing::{COMMIT, Server, cached as cache_files, hub};
use crate::model::{CausalLm, fixture};

fn id(text: &str) -> HubId {
    HubId::parse(text).expect("a hub id")
}

/// A model folder in shards; its tokenizer is never parsed here.
fn folder(dir: &Path) -> Result<CausalLm> {
    let model = fixture::model(false)?;
    let config = model.config().to_json("ForCausalLM");
    save_sharded(dir, &config, model.weights().tensors()?, 3000)?;
    for name in [tokenizer::FILE, "tokenizer_config.json"] {
        std::fs::write(dir.join(name), "{}").expect("written");
    }
    std::fs::write(dir.join("README.md"), "not needed").expect("written");
    Ok(model)
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(dir)
        .expect("a folder")
        .map(|entry| {
            let entry = entry.expect("an entry");
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).expect("a file"))
        })
        .collect()
}

#[test]
fn an_id_is_two_words_and_perhaps_a_revision() {
    let parsed = |text: &str| HubId::parse(text).map(|id| (id.repo, id.revision));
    let found = |repo: &str, revision: &str| Some((repo.to_owned(), revision.to_owned()));
    assert_eq!(parsed("org/name"), found("org/name", "main"));
    assert_eq!(parsed("org/na.me-1@v1.0"), found("org/na.me-1", "v1.0"));
    assert_eq!(parsed("org/name@refs/pr/3"), found("org/name", "refs/pr/3"));
    for text in [
        "name",
        "/org/name",
        "./name",
        "../name",
        "org/name/more",
        "org/",
        "org/name@",
        "org/name@../../x",
        "org/model.gguf",
        "org/na me",
        "~/name",
    ] {
        assert_eq!(parsed(text), None, "{text}");
    }
}

#[test]
fn a_cached_model_needs_no_network() -> Result<()> {
    let (dir, cache) = (tempfile::tempdir(), tempfile::tempdir());
    let (dir, cache) = (dir.expect("a folder"), cache.expect("a folder"));
    let model = folder(dir.path())?;
    let mut files = files(dir.path());
    cache_files(cache.path(), "models--org--name", &files);
    let offline = hub(cache.path(), "http://127.0.0.1:1", true);
    for name in ["org/name".to_owned(), format!("org/name@{COMMIT}")] {
        let found = fetch(&offline, &id(&name))?;
        let again = CausalLm::load(&found)?;
        assert_eq!(again.config(), model.config());
    }
    // Another revision is not there, and neither is a model of which a shard is missing.
    let error = fetch(&offline, &id("org/name@v2")).expect_err("not cached");
    let text = error.to_string();
    assert_eq!(error.exit_code(), 2);
    assert!(
        text.contains("org/name at revision v2") && text.contains("HF_HUB_OFFLINE"),
        "{text}"
    );
    assert!(
        error
            .hint_text()
            .is_some_and(|hint| hint.contains("pass the path"))
    );
    let shard = files
        .keys()
        .find(|name| name.starts_with("model-"))
        .cloned();
    let shard = shard.expect("shards");
    files.remove(&shard);
    let lacking = tempfile::tempdir().expect("a folder");
    cache_files(lacking.path(), "models--org--name", &files);
    assert!(
        fetch(
            &hub(lacking.path(), "http://127.0.0.1:1", true),
            &id("org/name")
        )
        .is_err()
    );
    Ok(())
}

#[test]
fn a_model_is_downloaded_once_and_only_what_is_needed_of_it() -> Result<()> {
    let (dir, cache) = (tempfile::tempdir(), tempfile::tempdir());
    let (dir, cache) = (dir.expect("a folder"), cache.expect("a folder"));
    let model = folder(dir.path())?;
    let generation = r#"{"eos_token_id": [2, 5]}"#;
    std::fs::write(dir.path().join(GENERATION), generation).expect("written");
    let server = Server::start(files(dir.path()));
    let online = hub(cache.path(), &server.endpoint, false);
    let found = fetch(&online, &id("org/name"))?;
    let again = CausalLm::load(&found)?;
    assert_eq!(again.config().eos_token_id, [2, 5]);
    for ((name, read), (_, kept)) in again
        .weights()
        .tensors()?
        .iter()
        .zip(model.weights().tensors()?)
    {
        let apart = (read - kept)?.abs()?.sum_all()?.to_scalar::<f32>()?;
        assert_eq!(apart, 0.0, "{name}");
    }
    let asked = server.asked();
    assert!(
        asked
            .iter()
            .any(|path| path.ends_with("tokenizer_config.json")),
        "{asked:?}"
    );
    assert!(
        !asked.iter().any(|path| path.ends_with("README.md")),
        "{asked:?}"
    );
    // The second time everything is there.
    assert_eq!(fetch(&online, &id("org/name"))?, found);
    assert_eq!(server.asked(), asked);
    Ok(())
}

#[test]
fn what_the_hub_does_not_give_is_wrong_input_with_what_was_tried() -> Result<()> {
    let (dir, cache) = (tempfile::tempdir(), tempfile::tempdir());
    let (dir, cache) = (dir.expect("a folder"), cache.expect("a folder"));
    folder(dir.path())?;
    let mut files = files(dir.path());
    files.retain(|name, _| !name.contains("safetensors"));
    let server = Server::start(files.clone());
    let refused = |endpoint: &str, name: &str| {
        let error = fetch(&hub(cache.path(), endpoint, false), &id(name)).expect_err("refused");
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    };
    let text = refused(&server.endpoint, "org/other");
    assert!(
        text.contains("404") && text.contains(&server.endpoint),
        "{text}"
    );
    let text = refused(&server.endpoint, "org/name");
    assert!(text.contains("neither model.safetensors"), "{text}");
    // Nobody listens: as without a network.
    let text = refused("http://127.0.0.1:1", "org/name");
    assert!(
        text.contains("http://127.0.0.1:1") && text.contains("does not hold it"),
        "{text}"
    );
    files.insert(CONFIG.to_owned(), br#"{"model_type": "gpt2"}"#.to_vec());
    let other = Server::start(files);
    let empty = tempfile::tempdir().expect("a folder");
    let error = fetch(&hub(empty.path(), &other.endpoint, false), &id("org/name"));
    let error = error.expect_err("of no family");
    assert!(error.to_string().contains("org/name"), "{error}");
    Ok(())
}
