//! Several processes with one store, and one that is killed. A process is stopped in the middle of a stage, so that what
//! the others do meanwhile does not hang on timing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{Place, fails, folders, succeeds};

/// Long enough to be stopped in.
const SLOW_SFT: [&str; 2] = ["sandbox.n_demonstrations=400", "sft.epochs=6"];

/// A process that does not outlive its test.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn stderr(&mut self) -> BufReader<ChildStderr> {
        BufReader::new(self.0.stderr.take().unwrap())
    }

    fn code(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The next line with these words.
fn line(reader: &mut impl BufRead, words: &str) -> String {
    let mut all = String::new();
    loop {
        let mut line = String::new();
        let read = reader.read_line(&mut line).unwrap();
        assert!(read > 0, "the process ended without {words:?}: {all}");
        if line.contains(words) {
            return line;
        }
        all += &line;
    }
}

/// Starts a run and stops it in the middle of SFT.
fn stopped(place: &Place, out: &str) -> Process {
    let mut process =
        Process::start(&mut place.command("run", &["fine-token-ppo"], out, &SLOW_SFT));
    let sft = place.store().join("sft");
    while folders(&sft, ".").is_empty() {
        assert!(
            process.0.try_wait().unwrap().is_none(),
            "the run ended before SFT"
        );
        thread::sleep(Duration::from_millis(1));
    }
    process.signal(Signal::STOP);
    assert_eq!(
        folders(&sft, ".").len(),
        1,
        "SFT is too fast to be stopped in"
    );
    process
}

fn waiter(place: &Place, out: &str) -> Process {
    Process::start(&mut place.command("run", &["fine-token-ppo"], out, &SLOW_SFT))
}

#[test]
fn of_two_comparisons_at_once_each_stage_is_computed_by_one_and_both_find_the_same() {
    let place = Place::new();
    let variants = ["ppo-rlhf", "fine-token-ppo"];
    let mut processes =
        ["a", "b"].map(|out| Process::start(&mut place.command("compare", &variants, out, &[])));
    for process in &mut processes {
        assert_eq!(process.code(), Some(0));
    }
    for variant in variants {
        let of = |out: &str| place.stages(&format!("{out}/{variant}-seed1"));
        let ((a, _), (b, _)) = (of("a"), of("b"));
        for stage in &a {
            assert!(!b.contains(stage), "{variant}: both have computed {stage}");
        }
    }
    // Even the seconds are those of the one that computed it.
    let result = |out: &str| fs::read(place.path(out).join("result.json")).unwrap();
    assert_eq!(result("a"), result("b"));
    assert_eq!(
        folders(&place.store().join("locks"), "").len(),
        1,
        "only the store's own lock is left"
    );
}

#[test]
fn who_needs_a_stage_under_way_waits_for_it_says_on_whom_and_can_be_interrupted() {
    let place = Place::new();
    let mut first = stopped(&place, "a");
    let whom = format!(
        "waiting for stage sft/{}: process {} on ",
        key(&place),
        first.pid()
    );

    let mut impatient = waiter(&place, "b");
    line(&mut impatient.stderr(), &whom);
    impatient.signal(Signal::INT);
    assert_eq!(impatient.code(), Some(130));
    assert!(
        place.path("b").is_dir(),
        "what it has finished is kept by it"
    );

    // What is under way is no garbage, and neither is what an unfinished run has.
    let report = place.prints(&["gc"]);
    assert!(report.contains("removed 0 folders"), "{report}");
    assert!(report.contains("1 locked"), "{report}");

    let mut patient = waiter(&place, "c");
    line(&mut patient.stderr(), &whom);
    first.signal(Signal::CONT);
    assert_eq!((first.code(), patient.code()), (Some(0), Some(0)));
    assert!(place.stages("a").0.contains(&"sft".to_owned()));
    assert!(place.stages("c").1.contains(&"sft".to_owned()));
    assert_eq!(place.tables("a"), place.tables("c"));
}

/// The hash of the only SFT stage under way.
fn key(place: &Place) -> String {
    let [temporary] = &folders(&place.store().join("sft"), ".")[..] else {
        panic!("one stage under way")
    };
    let name = temporary.file_name().unwrap().to_str().unwrap();
    name[1..17].to_owned()
}

#[test]
fn when_a_process_is_killed_in_a_stage_who_waits_for_it_computes_it_and_clears_up() {
    let place = Place::new();
    let first = stopped(&place, "a");
    let mut second = waiter(&place, "b");
    line(&mut second.stderr(), "waiting for stage sft/");
    first.signal(Signal::KILL);
    assert_eq!(second.code(), Some(0));
    assert!(folders(&place.store().join("sft"), ".").is_empty());
    let (computed, found) = place.stages("b");
    assert_eq!(found, ["data"], "what the killed process had finished");
    assert_eq!(computed[0], "sft");

    // The killed run's own directory can be used again, and the result is that of a run nobody disturbed.
    drop(first);
    succeeds(&mut place.command("run", &["fine-token-ppo"], "a", &SLOW_SFT));
    let apart = Place::new();
    succeeds(&mut apart.command("run", &["fine-token-ppo"], "a", &SLOW_SFT));
    assert_eq!(place.tables("a"), apart.tables("a"));
    assert_eq!(place.tables("b"), apart.tables("a"));
}

#[test]
fn what_a_killed_process_left_is_cleared_by_the_next_run_or_by_gc() {
    let place = Place::new();
    let first = stopped(&place, "a");
    first.signal(Signal::KILL);
    drop(first);
    let list = place.prints(&["list"]);
    assert!(list.contains("1 folder unfinished"), "{list}");
    let report = place.prints(&["gc"]);
    assert!(report.contains("a killed process left it"), "{report}");
    assert!(report.contains("removed 1 folder, "), "{report}");
    assert!(folders(&place.store().join("sft"), ".").is_empty());
    // The stages that it had finished are used by its run directory, in which it has written nothing yet.
    assert_eq!(place.list().len(), 1);
    succeeds(&mut place.command("run", &["fine-token-ppo"], "a", &SLOW_SFT));
    assert_eq!(place.stages("a").1, ["data"]);
}

#[test]
fn a_second_run_in_one_directory_is_refused_and_told_who_is_there() {
    let place = Place::new();
    let mut first = stopped(&place, "a");
    for verb in ["run", "compare"] {
        let message = fails(&mut place.command(verb, &["fine-token-ppo"], "a", &[]), 2);
        let whom = format!("is in use by process {} on ", first.pid());
        for words in [whom.as_str(), "run directory", "--out"] {
            assert!(message.contains(words), "no {words:?} in {message}");
        }
    }
    first.signal(Signal::CONT);
    assert_eq!(first.code(), Some(0));
    assert!(!place.path("a/.lock").exists());
    succeeds(&mut place.command("run", &["fine-token-ppo"], "a", &SLOW_SFT));
}

#[test]
fn an_interrupt_ends_all_runs_of_a_comparison_and_leaves_nothing_half() {
    let place = Place::new();
    let mut command = place.command("compare", &["fine-token-ppo"], "a", &SLOW_SFT);
    let mut process = Process::start(command.args(["--seeds", "1,2", "--jobs", "2"]));
    // Both are in the middle of SFT.
    let sft = place.store().join("sft");
    while folders(&sft, ".").len() < 2 {
        assert!(
            folders(&sft, "").len() == folders(&sft, ".").len(),
            "SFT is too fast to be interrupted"
        );
        thread::sleep(Duration::from_millis(1));
    }
    process.signal(Signal::INT);
    assert_eq!(process.code(), Some(130));
    assert!(folders(&sft, "").is_empty());
    for seed in [1, 2] {
        assert!(place.path(&format!("a/fine-token-ppo-seed{seed}")).is_dir());
    }
}
