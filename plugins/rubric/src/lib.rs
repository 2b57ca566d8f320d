//! The ground truth of the sandbox.
