//! The embedded sandbox: a task with ground truth.
