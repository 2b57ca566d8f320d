//! A hub on this machine: a server that answers as huggingface.co does, and caches laid out as Hugging Face's tools do.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::Hub;

/// The commit that main is at.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with one repository, org/name at main, which is a model and a data set at once, and the paths that it was asked for.
pub(crate) struct Server {
    /// Where it is.
    pub(crate) endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) fn start(files: BTreeMap<String, Vec<u8>>) -> Self {
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

    pub(crate) fn asked(&self) -> Vec<String> {
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
    let path_of_file = path.strip_prefix("/datasets").unwrap_or(&path);
    // The hub's client escapes the slashes of a file's path.
    let name = path_of_file
        .strip_prefix("/org/name/resolve/main/")
        .map(|name| name.replace("%2F", "/"));
    if ["models", "datasets"]
        .iter()
        .any(|kind| path == format!("/api/{kind}/org/name/revision/main"))
    {
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
    } else if let Some((name, all)) = name.and_then(|name| Some((name.clone(), files.get(&name)?)))
    {
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

/// A hub that a test asks.
pub(crate) fn hub(cache: &Path, endpoint: &str, offline: bool) -> Hub {
    Hub {
        cache: cache.to_owned(),
        endpoint: endpoint.to_owned(),
        token: None,
        offline,
    }
}

/// A cache with one repository (`models--org--name`), as `huggingface-cli download` leaves it: blobs, and snapshots of links to them.
pub(crate) fn cached(cache: &Path, repo: &str, files: &BTreeMap<String, Vec<u8>>) {
    let repo = cache.join(repo);
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
