//! pybundle command
fn main() {}
