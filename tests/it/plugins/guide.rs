//! The author's guide quotes the fixture that it is about: what it shows is what is built and loaded.

use std::process::Command;

use super::build::{root, target};

#[test]
fn the_fixture_passes_its_own_test() {
    let output = Command::new(env!("CARGO"))
        .args([
            "test",
            "--lib",
            "--offline",
            "--package=reward-length-penalised",
        ])
        .args([
            "--profile",
            if cfg!(debug_assertions) {
                "dev"
            } else {
                "release"
            },
        ])
        .current_dir(root().join("tests/fixtures"))
        .env("CARGO_TARGET_DIR", target())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{errors}"
    );
}

#[test]
fn every_rust_block_of_the_guide_stands_in_the_fixture() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let guide = read("docs/plugins.md");
    let source = read("tests/fixtures/good/reward-length-penalised/src/lib.rs");
    let blocks: Vec<&str> = guide
        .split("```rust\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(blocks.len() >= 4, "the guide has lost its code");
    for block in blocks {
        assert!(
            source.contains(block),
            "docs/plugins.md shows code that the fixture does not have:\n{block}"
        );
    }
}
