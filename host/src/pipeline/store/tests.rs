//! Stages that are found, computed, waited for, damaged and interrupted.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use super::record::{RECORD, SEAL};
use super::*;

static NEVER: AtomicBool = AtomicBool::new(false);

/// An asker that is told nothing and never gives up.
pub(super) fn quiet() -> Asker<'static> {
    Asker {
        cancel: &NEVER,
        note: &|_| {},
        warn: &|_| {},
    }
}

/// Writes a file of this content.
pub(super) fn writes(content: &str) -> impl FnOnce(&Path) -> Result<f64> {
    move |dir| {
        fs::write(dir.join("x"), content).map_err(|error| Error::io("write", dir, &error))?;
        Ok(0.0)
    }
}

fn must_not_run(_: &Path) -> Result<f64> {
    Err(Error::internal("must not run"))
}

pub(super) fn key() -> StageKey {
    StageKey::new("sft", json!({ "lr": 0.1 }))
}

fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_stage_runs_once_and_a_failed_one_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let failed = store.obtain(key(), &quiet(), |dir| {
        fs::write(dir.join("half"), "x").unwrap();
        Err(Error::internal("broken"))
    });
    assert!(failed.is_err());
    assert!(entries(&root.path().join("sft")).is_empty());

    let first = store.obtain(key(), &quiet(), writes("1")).unwrap();
    assert!(first.fresh);
    // Another process has nothing but the folder.
    for store in [store, Store::open(root.path()).unwrap()] {
        let second = store.obtain(key(), &quiet(), must_not_run).unwrap();
        assert!(!second.fresh);
        assert_eq!(fs::read_to_string(second.file("x")).unwrap(), "1");
        assert_eq!(second.record.finished, first.record.finished);
    }
    assert_eq!(entries(&root.path().join("locks")), [STORE_LOCK]);
}

#[test]
fn a_damaged_artifact_is_named_set_aside_and_computed_again() {
    /// What is done to an artifact, and what is said of it.
    struct Case(&'static str, fn(&Path), &'static str);
    let cases = [
        Case(
            "a flipped byte",
            |dir| fs::write(dir.join("x"), "2").unwrap(),
            "x has the SHA-256 d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35 instead of \
             6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
        ),
        Case(
            "a file that is gone",
            |dir| fs::remove_file(dir.join("x")).unwrap(),
            "x is missing",
        ),
        Case(
            "a record cut short",
            |dir| {
                let text = fs::read(dir.join(RECORD)).unwrap();
                fs::write(dir.join(RECORD), &text[..9]).unwrap();
            },
            "stage.json has the SHA-256",
        ),
        Case(
            "no record",
            |dir| fs::remove_file(dir.join(RECORD)).unwrap(),
            "stage.json is missing",
        ),
        Case(
            "no seal",
            |dir| fs::remove_file(dir.join(SEAL)).unwrap(),
            "stage.sha256 is missing",
        ),
    ];
    let root = tempfile::tempdir().unwrap();
    let made = Store::open(root.path()).unwrap();
    let dir = made.obtain(key(), &quiet(), writes("1")).unwrap().dir;
    for (number, Case(what, spoil, words)) in cases.into_iter().enumerate() {
        spoil(&dir);
        let said = Mutex::new(Vec::new());
        let asker = Asker {
            warn: &|text| said.lock().unwrap().push(text.to_owned()),
            ..quiet()
        };
        let store = Store::open(root.path()).unwrap();
        let again = store.obtain(key(), &asker, writes("1")).unwrap();
        assert!(again.fresh, "{what}");
        assert_eq!(fs::read_to_string(again.file("x")).unwrap(), "1", "{what}");
        let [said] = &said.into_inner().unwrap()[..] else {
            panic!("{what}: one warning")
        };
        let aside = format!("damaged-{}-{}", key().hash(), number + 1);
        for word in [words, &key().to_string(), &aside] {
            assert!(said.contains(word), "{what}: no {word:?} in {said}");
        }
        assert!(dir.with_file_name(aside).is_dir());
    }
    // What was repaired is found.
    let store = Store::open(root.path()).unwrap();
    assert!(!store.obtain(key(), &quiet(), must_not_run).unwrap().fresh);
}

#[test]
fn of_two_that_need_a_stage_at_once_one_computes_and_the_other_waits_for_it() {
    let root = tempfile::tempdir().unwrap();
    let (ran, waited) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results: Vec<Artifact> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let asker = Asker {
                        note: &|_| waited.store(true, Ordering::SeqCst),
                        ..quiet()
                    };
                    // A lock belongs to an open file, so two threads with stores of their own are two processes to it.
                    let store = Store::open(root.path()).unwrap();
                    let work = |dir: &Path| {
                        ran.fetch_add(1, Ordering::SeqCst);
                        while !waited.load(Ordering::SeqCst) {
                            std::thread::yield_now();
                        }
                        writes("1")(dir)
                    };
                    store.obtain(key(), &asker, work).unwrap()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(ran.load(Ordering::SeqCst), 1);
    assert_eq!(results.iter().filter(|artifact| artifact.fresh).count(), 1);
    assert_eq!(results[0].dir, results[1].dir);
}

#[test]
fn leftovers_of_a_killed_process_go_when_the_stage_is_computed_and_those_of_other_stages_stay() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let other = StageKey::new("sft", json!(2));
    let left = |key: &StageKey| {
        let path = root.path().join("sft").join(format!(".{}-abc", key.hash()));
        fs::create_dir_all(path.join("model")).unwrap();
        fs::write(path.join("model/half"), "x").unwrap();
        path
    };
    let (ours, theirs) = (left(&key()), left(&other));
    // The lock file of a killed process locks nobody out.
    fs::create_dir_all(root.path().join("locks")).unwrap();
    let path = lock_path(root.path(), "sft", key().hash()).unwrap();
    fs::write(&path, "{\"pid\":1,\"host\":\"gone\",\"since\":\"then\"}").unwrap();
    store.obtain(key(), &quiet(), writes("1")).unwrap();
    assert!(!ours.exists() && theirs.exists() && !path.exists());
}

#[test]
fn what_a_run_asks_for_is_written_down_before_it_is_there() {
    let root = tempfile::tempdir().unwrap();
    let run = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let uses = || {
        let runs = references::all(root.path()).unwrap();
        runs.iter()
            .flat_map(|run| run.stages.clone())
            .collect::<Vec<_>>()
    };
    store.obtain(key(), &quiet(), writes("1")).unwrap();
    assert!(uses().is_empty());
    store.enter(run.path()).unwrap();
    let next = StageKey::new("ppo", json!({ "sft": key() }));
    store.obtain(key(), &quiet(), must_not_run).unwrap();
    store
        .obtain(next.clone(), &quiet(), |dir| {
            assert_eq!(uses(), [next.to_string(), key().to_string()]);
            writes("2")(dir)
        })
        .unwrap();
    store.leave([&next]).unwrap();
    assert_eq!(uses(), [next.to_string()]);
}

#[test]
fn a_store_below_a_file_is_refused_by_its_path() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Store::open(&file.path().join("store")).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(
        error
            .to_string()
            .contains(&file.path().display().to_string()),
        "{error}"
    );
}
