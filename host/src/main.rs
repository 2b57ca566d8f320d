//! The finegrain command.

fn main() {}
