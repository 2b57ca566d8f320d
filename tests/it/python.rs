//! The reference implementations, by scripts of tests/scripts.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// What a script prints; `None`, with the reason printed, where there is no Python for it. A script says by exit code 77
/// that a module is missing.
pub(crate) fn python(
    script: &str,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    input: Option<&Value>,
) -> Option<Value> {
    let Some(python) = std::env::var_os("FINEGRAIN_PYTHON") else {
        eprintln!(
            "skipped: FINEGRAIN_PYTHON names no Python with torch, transformers, peft and gguf"
        );
        return None;
    };
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut child = Command::new(python)
        .arg(scripts.join(script))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("FINEGRAIN_PYTHON runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    if let Some(input) = input {
        // A script that leaves without reading says why by its exit code.
        let _ = stdin.write_all(input.to_string().as_bytes());
    }
    drop(stdin);
    let output = child.wait_with_output().expect("a script that ends");
    if output.status.code() == Some(77) {
        eprintln!("skipped: FINEGRAIN_PYTHON lacks a module that {script} needs");
        return None;
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    Some(serde_json::from_slice(&output.stdout).expect("the script prints JSON"))
}
