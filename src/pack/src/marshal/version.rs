//! The part of Python's version that decides the bytecode's layout.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A Python version without its patch level: `3.11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PythonVersion {
    /// The first number.
    pub major: u8,
    /// The second number.
    pub minor: u8,
}

impl fmt::Display for PythonVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
