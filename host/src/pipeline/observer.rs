//! Where a stage's metrics and progress go: `metrics.jsonl` in its folder, and standard error.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::pipeline::context::Observer;

/// Between two plain lines of progress, where standard error is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(20);

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

/// The metrics file, and the first write to it that failed: what was lost then stays lost, even if later ones succeed.
struct Metrics {
    file: BufWriter<File>,
    failed: Option<io::Error>,
}

/// The observer of one stage.
pub struct StageObserver {
    title: String,
    show: Show,
    bar: ProgressBar,
    metrics_path: PathBuf,
    metrics: Mutex<Metrics>,
    start: Instant,
    last_line: Mutex<Instant>,
}

impl StageObserver {
    /// An observer that writes `metrics.jsonl` into the stage's folder.
    pub fn new(title: &str, dir: &Path, show: Show) -> Result<Self> {
        let path = dir.join("metrics.jsonl");
        // What a checkpoint has brought back stands there already.
        let file = File::options()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|error| Error::io("write", &path, &error))?;
        let bar = if show == Show::Progress && Term::stderr().is_term() {
            let bar = BARS.add(ProgressBar::new(0));
            let style = ProgressStyle::with_template(
                "{prefix:<36} {bar:24} {pos}/{len} {eta:>4} left  {msg}",
            )
            .map_err(|error| Error::internal(error.to_string()))?;
            bar.set_style(style);
            bar.set_prefix(title.to_owned());
            bar
        } else {
            ProgressBar::hidden()
        };
        Ok(Self {
            title: title.to_owned(),
            show,
            bar,
            metrics_path: path,
            metrics: Mutex::new(Metrics {
                file: BufWriter::new(file),
                failed: None,
            }),
            start: Instant::now(),
            last_line: Mutex::new(Instant::now()),
        })
    }

    /// Flushes the metrics and says that the stage is done.
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
}

impl Observer for StageObserver {
    fn metrics(&self, step: u64, values: &[(&str, f64)]) {
        let mut line = Map::new();
        line.insert("step".into(), step.into());
        for &(name, value) in values {
            // JSON has no NaN; null says that the figure does not exist at this step.
            line.insert(
                name.into(),
                serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number),
            );
        }
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk fails the stage when it is finished.
        if let Err(error) = writeln!(metrics.file, "{}", Value::Object(line)) {
            metrics.failed.get_or_insert(error);
        }
    }

    fn progress(&self, done: u64, total: u64, message: &str) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.set_message(message.to_owned());
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
    }

    fn flush(&self) -> Result<()> {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        let written = match metrics.failed.take() {
            Some(error) => Err(error),
            None => metrics.file.flush(),
        };
        written.map_err(|error| Error::io("write", &self.metrics_path, &error))
    }

    fn warn(&self, message: &str) {
        BARS.suspend(|| {
            let _ = writeln!(std::io::stderr(), "warning: {}: {message}", self.title);
        });
    }
}
