use std::cell::RefCell;

use super::*;

fn config(keep: usize) -> CheckpointConfig {
    CheckpointConfig {
        every: 2,
        every_seconds: 0.0,
        keep,
    }
}

fn open(folder: &Path) -> (Checkpoints, Vec<String>) {
    let warnings = RefCell::new(Vec::new());
    let warn = |text: &str| warnings.borrow_mut().push(text.to_owned());
    let checkpoints = Checkpoints::open(folder, &config(2), &warn).unwrap();
    (checkpoints, warnings.into_inner())
}

/// Values that no decimal short form has.
const STATE: f64 = 0.1 + 0.2;
const VALUES: [f32; 3] = [0.1, -0.0, f32::MIN_POSITIVE / 2.0];

fn save(checkpoints: &Checkpoints, step: u64, dir: &Path) {
    let parts = vec![Part::floats("x.0".into(), &VALUES)];
    let state = (step, STATE);
    assert!(
        checkpoints
            .save(step, dir, Snapshot { state, parts })
            .unwrap()
    );
}

/// A folder of checkpoints after steps 2, 4 and 6, and the stage's folder.
fn three() -> (tempfile::TempDir, tempfile::TempDir) {
    let (folder, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (checkpoints, _) = open(folder.path());
    assert!(checkpoints.found().is_none());
    for step in [2, 4, 6] {
        let lines = "{}\n".repeat(step as usize);
        fs::write(dir.path().join("metrics.jsonl"), lines).unwrap();
        fs::write(dir.path().join("other.txt"), "not a line").unwrap();
        save(&checkpoints, step, dir.path());
    }
    (folder, dir)
}

#[test]
fn the_newest_comes_back_to_the_bit_with_the_files_of_its_time_and_as_many_are_kept_as_asked() {
    let (folder, _dir) = three();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    let (checkpoints, warnings) = open(folder.path());
    assert!(warnings.is_empty());
    let ((step, state), saved) = checkpoints.resume::<(u64, f64)>().unwrap().unwrap();
    assert_eq!(
        (step, state.to_bits(), saved.step()),
        (6, STATE.to_bits(), 6)
    );
    let mut values = [0.0; 3];
    saved.read("x.0", &mut values).unwrap();
    assert_eq!(values.map(f32::to_bits), VALUES.map(f32::to_bits));
    let again = tempfile::tempdir().unwrap();
    saved.restore_files(again.path()).unwrap();
    assert_eq!(fs::read_dir(again.path()).unwrap().count(), 1);
    let metrics = fs::read_to_string(again.path().join("metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 6);
    assert!(checkpoints.earlier_seconds() > 0.0);
}

#[test]
fn a_truncated_or_changed_file_is_set_aside_and_the_older_one_is_used() {
    for damage in [
        |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2),
        |bytes: &mut Vec<u8>| bytes[20] ^= 1,
    ] {
        let (folder, _dir) = three();
        let newest = file::list(folder.path()).unwrap().remove(0);
        let mut bytes = fs::read(&newest).unwrap();
        damage(&mut bytes);
        fs::write(&newest, bytes).unwrap();
        fs::write(folder.path().join(".partial-x"), "half").unwrap();
        let (checkpoints, warnings) = open(folder.path());
        assert_eq!(checkpoints.found().unwrap().step(), 4);
        let [warning] = &warnings[..] else {
            panic!("{warnings:?}")
        };
        assert!(warning.contains("step-000000006-"), "{warning}");
        assert!(warning.contains("its name says SHA-256"), "{warning}");
        assert!(!newest.exists());
        assert!(!folder.path().join(".partial-x").exists());
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let (folder, _dir) = three();
    let (checkpoints, _) = open(folder.path());
    let saved = checkpoints.found().unwrap();
    let error = saved.read("x.0", &mut [0.0; 2]).unwrap_err();
    assert!(
        error.to_string().contains("x.0 has 12 bytes, not 8"),
        "{error}"
    );
    let error = saved.read("y.0", &mut [0.0; 2]).unwrap_err();
    assert!(error.to_string().contains("it lacks y.0"), "{error}");
    assert_eq!(error.exit_code(), 2);
    assert!(checkpoints.resume::<String>().is_err());
}

#[test]
fn they_are_due_by_steps_or_by_time() {
    let (folder, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let due = |config: &CheckpointConfig| -> Vec<bool> {
        let checkpoints = Checkpoints::open(folder.path(), config, &|_| {}).unwrap();
        (1..=4).map(|step| checkpoints.due(step)).collect()
    };
    assert_eq!(due(&config(1)), [false, true, false, true]);
    let by_time = |every_seconds| CheckpointConfig {
        every: 0,
        every_seconds,
        keep: 1,
    };
    assert_eq!(due(&by_time(0.0)), [false; 4]);
    assert_eq!(due(&by_time(1e6)), [false; 4]);
    assert_eq!(due(&by_time(1e-9)), [true; 4]);
    let parts = Vec::new();
    assert!(
        !Checkpoints::none()
            .save(1, dir.path(), Snapshot { state: (), parts })
            .unwrap()
    );
    assert!(!Checkpoints::none().due(1));
}

#[test]
fn a_folder_that_cannot_be_written_is_named_and_older_ones_stay() {
    let (folder, dir) = three();
    let (checkpoints, _) = open(folder.path());
    let before = file::list(folder.path()).unwrap();
    // A file in the place of the folder: root may write anywhere, so permissions would prove nothing.
    let moved = folder.path().with_extension("moved");
    fs::rename(folder.path(), &moved).unwrap();
    fs::write(folder.path(), "in the way").unwrap();
    let parts = Vec::new();
    let error = checkpoints
        .save(8, dir.path(), Snapshot { state: (), parts })
        .unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(
        error.to_string().contains("cannot write a checkpoint into"),
        "{error}"
    );
    fs::remove_file(folder.path()).unwrap();
    fs::rename(&moved, folder.path()).unwrap();
    assert_eq!(file::list(folder.path()).unwrap(), before);
}
