//! What a run shows of itself: figures, distributions and texts as JSON lines, TensorBoard's event files, alarms, the line on the
//! terminal. docs/metrics.md has names, formulas, units, and what each alarm looks at.

pub mod alarms;
pub mod dashboard;
pub mod event_file;
pub mod histogram;
pub mod line;
pub mod not_finite;
pub mod watch;

pub use alarms::{Action, Alarms, AlarmsConfig, Finding};
pub use line::{Line, MetricLine};
pub use not_finite::{NotFinite, NotFiniteRow};
pub use watch::{Telemetry, Watch};
