//! Where what a stage reports goes: JSON lines in its folder, the run's event file, alarms, and standard error.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::error::{Error, Result};
use crate::pipeline::context::Observer;
use crate::telemetry::dashboard::{self, Latest, Pace};
use crate::telemetry::event_file::EventFile;
use crate::telemetry::histogram::Histogram;
use crate::telemetry::line::{self, HistogramLine, Line, MetricLine, TextLine};
use crate::telemetry::{Action, Alarms, Finding, Watch};

/// Between two plain lines of progress, where standard error is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(20);
/// Two lines of a stage are at least this far apart, so that times give their order.
const TICK: f64 = 1e-6;

/// The bars of all stages that go on at once. There is one terminal, so there is one of these in a process.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Whether and how progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Bars on a terminal, plain lines elsewhere.
    Progress,
    /// Warnings only.
    Nothing,
}

/// What is written and what follows from it, behind one lock: the order of lines is one for all of them.
struct State {
    dir: PathBuf,
    files: BTreeMap<&'static str, File>,
    events: Option<EventFile>,
    alarms: Alarms,
    gate: Option<Finding>,
    latest: Latest,
    pace: Pace,
    last_time: f64,
    /// The first write that failed: what was lost then stays lost, even if later ones succeed.
    failed: Option<Error>,
}

/// The observer of one stage.
pub struct StageObserver {
    title: String,
    show: Show,
    bar: ProgressBar,
    state: Mutex<State>,
    start: Instant,
    last_line: Mutex<Instant>,
}

impl StageObserver {
    /// An observer that appends to `metrics.jsonl`, `histograms.jsonl` and `texts.jsonl` in the stage's folder. What they hold
    /// already, from before an interruption, counts: event file and alarms go on from there.
    pub fn new(title: &str, dir: &Path, show: Show, watch: &Watch) -> Result<Self> {
        let before = line::read_all(dir)?;
        let events = watch.event_file();
        let mut state = State {
            dir: dir.to_path_buf(),
            files: BTreeMap::new(),
            events: events
                .map(|path| EventFile::open(&path, &before))
                .transpose()?,
            alarms: Alarms::new(&watch.alarms),
            gate: None,
            latest: Latest::default(),
            pace: Pace::new(0),
            last_time: before.last().map_or(0.0, Line::unix_seconds),
            failed: None,
        };
        let mut warnings = Vec::new();
        for line in &before {
            if let Line::Metrics(line) = line {
                // What went off before the interruption is said again: that output may be gone, or have named a gate.
                warnings.extend(state.follow(line));
                state.pace = Pace::new(line.step);
            }
        }
        // A stage without metrics has an empty file, which tells it from one that has lost them.
        state.append(line::METRICS, "")?;
        let bar = if show == Show::Progress && Term::stderr().is_term() {
            let bar = BARS.add(ProgressBar::new(0));
            let template = format!(
                "{{prefix:<{}}} {{bar:{}}} {{pos}}/{{len}} {{msg}}",
                dashboard::TITLE,
                dashboard::BAR
            );
            let style = ProgressStyle::with_template(&template)
                .map_err(|error| Error::internal(error.to_string()))?;
            bar.set_style(style);
            bar.set_prefix(dashboard::title(title));
            bar
        } else {
            ProgressBar::hidden()
        };
        let observer = Self {
            title: title.to_owned(),
            show,
            bar,
            state: Mutex::new(state),
            start: Instant::now(),
            last_line: Mutex::new(Instant::now()),
        };
        observer.warn_of(&warnings);
        Ok(observer)
    }

    /// Says that the stage is done.
    ///
    /// # Errors
    /// The first write that failed: a full disk fails the stage at its end.
    pub fn finish(&self) -> Result<()> {
        self.bar.finish_and_clear();
        self.flush()?;
        self.line(&format!(
            "{}: done in {:.1} s",
            self.title,
            self.start.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    fn line(&self, text: &str) {
        if self.show == Show::Progress {
            BARS.suspend(|| {
                let _ = writeln!(std::io::stderr(), "{text}");
            });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line, which gets its time here, and warns of what goes off with it.
    fn write(&self, line: impl FnOnce(f64) -> Line) {
        let warnings = {
            let mut state = self.state();
            let time = state.next_time();
            state.write(&line(time)).unwrap_or_else(|error| {
                state.failed.get_or_insert(error);
                Vec::new()
            })
        };
        self.warn_of(&warnings);
    }

    fn warn_of(&self, findings: &[Finding]) {
        for finding in findings {
            self.warn(&format!("{finding}; {}", finding.hint));
        }
    }
}

impl State {
    /// Now, or just after the last line, in whole ticks.
    fn next_time(&mut self) -> f64 {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0.0, |since| since.as_micros() as f64 * TICK);
        self.last_time = now.max(self.last_time + TICK);
        self.last_time
    }

    /// Appends a line to its file, hands it on as a reader of the file gets it, and returns the warnings it gives.
    fn write(&mut self, line: &Line) -> Result<Vec<Finding>> {
        let (text, line) = line.written()?;
        self.append(line.file(), &format!("{text}\n"))?;
        if let Some(events) = &mut self.events {
            events.push(&line)?;
        }
        Ok(match &line {
            Line::Metrics(line) => self.follow(line),
            _ => Vec::new(),
        })
    }

    fn append(&mut self, name: &'static str, text: &str) -> Result<()> {
        let path = self.dir.join(name);
        let fail = |error| Error::io("write", &path, &error);
        let file = match self.files.entry(name) {
            std::collections::btree_map::Entry::Occupied(file) => file.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => place.insert(
                File::options()
                    .create(true)
                    .append(true)
                    .open(&path)
                    .map_err(fail)?,
            ),
        };
        file.write_all(text.as_bytes()).map_err(fail)
    }

    /// What follows from a line of metrics: figures on the terminal, gates, and the warnings that are returned.
    fn follow(&mut self, line: &MetricLine) -> Vec<Finding> {
        self.latest.observe(line);
        let (gates, warnings) = self
            .alarms
            .observe(line)
            .into_iter()
            .partition(|finding| finding.action == Action::Gate);
        let gates: Vec<Finding> = gates;
        if self.gate.is_none() {
            self.gate = gates.into_iter().next();
        }
        warnings
    }
}

impl Observer for StageObserver {
    fn metrics(&self, step: u64, values: &[(&str, f64)]) {
        self.write(|time| Line::Metrics(MetricLine::new(step, time, values)));
    }

    fn histogram(&self, step: u64, name: &str, values: &[f32]) {
        if let Some(histogram) = Histogram::of(values) {
            self.write(|unix_seconds| {
                Line::Histogram(HistogramLine {
                    step,
                    unix_seconds,
                    name: name.to_owned(),
                    histogram,
                })
            });
        }
    }

    fn text(&self, step: u64, name: &str, text: &str) {
        self.write(|unix_seconds| {
            Line::Text(TextLine {
                step,
                unix_seconds,
                name: name.to_owned(),
                text: text.to_owned(),
            })
        });
    }

    fn check_gates(&self) -> Result<()> {
        match &self.state().gate {
            Some(finding) => Err(finding.gate()),
            None => Ok(()),
        }
    }

    fn progress(&self, done: u64, total: u64, message: &str) {
        let message = {
            let mut state = self.state();
            let left = state.pace.left(done, total);
            dashboard::message(left, &state.latest, message)
        };
        if self.bar.is_hidden() && self.show == Show::Progress {
            let mut last = self
                .last_line
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() >= PLAIN_INTERVAL {
                *last = Instant::now();
                self.line(&format!("{}: {done}/{total} {message}", self.title));
            }
        }
        self.bar.set_message(message);
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    fn flush(&self) -> Result<()> {
        // Lines are written one by one; what is left is the first write that failed.
        match self.state().failed.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn warn(&self, message: &str) {
        BARS.suspend(|| {
            let _ = writeln!(std::io::stderr(), "warning: {}: {message}", self.title);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::pipeline::store::StageKey;
    use crate::telemetry::event_file::EVENT_FILE;
    use crate::telemetry::{AlarmsConfig, Telemetry};

    #[test]
    fn what_goes_on_after_an_interruption_ends_with_what_an_undisturbed_stage_has() {
        let folder = tempfile::tempdir().unwrap();
        let mut alarms = AlarmsConfig::default();
        alarms.kl_runaway.action = Action::Gate;
        let telemetry = Telemetry::default();
        telemetry.enter(&folder.path().join("run"), &alarms);
        let watch = telemetry.watch(&StageKey::new("ppo", serde_json::json!({})));
        let stage = folder.path().join("stage");
        fs::create_dir(&stage).unwrap();
        let observer = || StageObserver::new("a: ppo", &stage, Show::Nothing, &watch).unwrap();
        let report = |observer: &StageObserver, step| {
            observer.metrics(
                step,
                &[("kl/response_k1", 60.0), ("a/b", 1.0 / step as f64)],
            );
            observer.histogram(step, "a/h", &[1.0, step as f32]);
            observer.text(step, "samples/x", "words");
        };
        let first = observer();
        report(&first, 1);
        report(&first, 2);
        first.check_gates().unwrap();
        drop(first);
        // Cut back to step 1, as a checkpoint does; the event file still holds step 2.
        for name in [line::METRICS, line::HISTOGRAMS, line::TEXTS] {
            let path = stage.join(name);
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, format!("{}\n", text.lines().next().unwrap())).unwrap();
        }
        let second = observer();
        report(&second, 2);
        second.check_gates().unwrap();
        report(&second, 3);
        let error = second.check_gates().unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(
            error.to_string().contains("kl_runaway at step 3"),
            "{error}"
        );
        second.finish().unwrap();
        drop(second);

        let lines = line::read_all(&stage).unwrap();
        let order: Vec<&str> = lines.iter().map(Line::file).collect();
        let each = [line::METRICS, line::HISTOGRAMS, line::TEXTS];
        assert_eq!(order, [each, each, each].concat());
        assert!(
            lines
                .windows(2)
                .all(|two| two[0].unix_seconds() < two[1].unix_seconds())
        );
        let whole = folder.path().join(EVENT_FILE);
        EventFile::open(&whole, &lines).unwrap();
        let along = fs::read(watch.event_file().unwrap()).unwrap();
        assert!(along == fs::read(whole).unwrap(), "the event files differ");
        // Whoever starts it again meets the gate at once.
        observer().check_gates().unwrap_err();
    }
}
