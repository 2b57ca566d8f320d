//! Integration tests, one module a subject.

mod model;
mod plugins;
