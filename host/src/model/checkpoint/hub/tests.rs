//! A hub on this machine: a server that answers as huggingface.co does, and caches laid out as Hugging Face's tools do.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::super::write::save_sharded;
use super::*;
use crate::model::{Llama, fixture};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn id(text: &str) -> HubId {
    HubId::parse(text).expect("a hub id")
}

/// A model folder in shards; its tokenizer is never parsed here.
fn folder(dir: &Path) -> Result<Llama> {
    let model = fixture::model(false)?;
    let config = model.config().to_json("LlamaForCausalLM");
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

/// A hub with one model, org/name at main, and the paths that it was asked for.
struct Server {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away is not the test's business; what it did not get fails there.
                let _ = respond(stream, &files, &seen);
            }
        });
        Self { endpoint, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

/// Answers one request: the list of files, or a range of one.
fn respond(
    mut stream: TcpStream,
    files: &BTreeMap<String, Vec<u8>>,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut range = None;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("range: bytes=") {
            range = value
                .split_once('-')
                .map(|(a, b)| (a.to_owned(), b.to_owned()));
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    asked.lock().expect("no panic").push(path.clone());
    let name = path.strip_prefix("/org/name/resolve/main/");
    if path == "/api/models/org/name/revision/main" {
        let siblings: Vec<_> = files
            .keys()
            .map(|name| serde_json::json!({ "rfilename": name }))
            .collect();
        let body = serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    } else if let Some((name, all)) = name.and_then(|name| Some((name, files.get(name)?))) {
        let (first, last) = range.unwrap_or_default();
        let first = first.parse().unwrap_or(0);
        let last = last
            .parse()
            .map_or(all.len(), |last: usize| last + 1)
            .min(all.len());
        let body = &all[first..last];
        write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\nX-Repo-Commit: {COMMIT}\r\nETag: \"{name}-etag\"\r\nContent-Range: bytes \
             {first}-{}/{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            last.saturating_sub(1),
            all.len(),
            body.len()
        )?;
        stream.write_all(body)
    } else {
        write!(
            stream,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
    }
}

fn hub(cache: &Path, endpoint: &str, offline: bool) -> Hub {
    Hub {
        cache: cache.to_owned(),
        endpoint: endpoint.to_owned(),
        token: None,
        offline,
    }
}

/// A cache as `huggingface-cli download` leaves it: blobs, and snapshots of links to them.
fn cached(cache: &Path, files: &BTreeMap<String, Vec<u8>>) {
    let repo = cache.join("models--org--name");
    let snapshot = repo.join("snapshots").join(COMMIT);
    for dir in [&snapshot, &repo.join("refs"), &repo.join("blobs")] {
        std::fs::create_dir_all(dir).expect("a folder");
    }
    std::fs::write(repo.join("refs/main"), COMMIT).expect("written");
    for (name, bytes) in files {
        std::fs::write(repo.join("blobs").join(name), bytes).expect("written");
        std::os::unix::fs::symlink(format!("../../blobs/{name}"), snapshot.join(name))
            .expect("a link");
    }
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
    cached(cache.path(), &files);
    let offline = hub(cache.path(), "http://127.0.0.1:1", true);
    for name in ["org/name".to_owned(), format!("org/name@{COMMIT}")] {
        let found = offline.fetch(&id(&name))?;
        let again = Llama::load(&found)?;
        assert_eq!(again.config(), model.config());
    }
    // Another revision is not there, and neither is a model of which a shard is missing.
    let error = offline.fetch(&id("org/name@v2")).expect_err("not cached");
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
    cached(lacking.path(), &files);
    assert!(
        hub(lacking.path(), "http://127.0.0.1:1", true)
            .fetch(&id("org/name"))
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
    let found = online.fetch(&id("org/name"))?;
    let again = Llama::load(&found)?;
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
    assert_eq!(online.fetch(&id("org/name"))?, found);
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
        let error = hub(cache.path(), endpoint, false)
            .fetch(&id(name))
            .expect_err("refused");
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
    let error = hub(empty.path(), &other.endpoint, false).fetch(&id("org/name"));
    let error = error.expect_err("not a LLaMA");
    assert!(error.to_string().contains("org/name"), "{error}");
    Ok(())
}
