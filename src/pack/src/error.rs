//! Why an environment could not be packed or compared.

use std::{io, path::PathBuf};

use crate::compile::{CompileError, ProbeError};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an environment could not be packed or compared. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Not a folder, no interpreter in it, or one that doesn't answer.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The interpreter answers for another folder.
    #[error(
        "not a Python environment: its interpreter belongs to `{}`: `{}`",
        prefix.display(),
        path.display()
    )]
    NotItsPrefix {
        /// The folder given.
        path: PathBuf,
        /// `sys.prefix` of its interpreter.
        prefix: PathBuf,
    },
    /// Another Python than the ones that are supported.
    #[error("environment's Python is not supported: expected {expected}, got {got}: `{}`", path.display())]
    Unsupported {
        /// The environment.
        path: PathBuf,
        /// What is.
        expected: &'static str,
        /// What it has.
        got: String,
    },
    /// `--exclude` is not a glob.
    #[error("not a glob: {what}: `{glob}`")]
    Glob {
        /// As given.
        glob: String,
        /// What the parser said.
        what: String,
    },
    /// `--level` is out of range.
    #[error("level: expected 1 to 22, got {got}")]
    Level {
        /// As given.
        got: i32,
    },
    /// The target exists and is something else than a bundle.
    #[error("refusing to replace what is not a bundle: `{}`", path.display())]
    Occupied {
        /// The target.
        path: PathBuf,
    },
    /// A file has another size or time than when it was found, or is gone.
    #[error("environment changed while it was read: {what}: `{}`", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What changed.
        what: String,
    },
    /// The interpreter can't be run to compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The format refused the bundle.
    #[error(transparent)]
    Bundle(#[from] pybundle_bundle::Error),
}
