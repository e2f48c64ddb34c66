//! What can be wrong with a bundle.

use std::{io, path::PathBuf};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a bundle was refused, or could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be opened, read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file starts with something else.
    #[error("not a pybundle file: `{path}`")]
    NotABundle {
        /// The file.
        path: PathBuf,
    },
    /// The file ends early or goes on after its end.
    #[error("bundle is {}: expected {expected} bytes, got {got}: `{path}`", if got < expected { "truncated" } else { "followed by other bytes" })]
    Length {
        /// The file.
        path: PathBuf,
        /// What the index says.
        expected: u64,
        /// What the file system says.
        got: u64,
    },
    /// A newer or older major version of the format.
    #[error("bundle has format {got}, this pybundle reads format {expected}")]
    Version {
        /// Ours.
        expected: u16,
        /// Theirs.
        got: u16,
    },
    /// A table, a length or an offset contradicts itself.
    #[error("index is corrupt: {what}")]
    Index {
        /// Which rule is broken, where.
        what: String,
    },
    /// Bytes between the entries are not what the index says.
    #[error("bundle is corrupt: header bytes differ from the index at offset {offset}")]
    Structure {
        /// Offset of the first difference in the file.
        offset: u64,
    },
    /// The stored bytes of an entry are not those that were packed.
    #[error("entry is corrupt: SHA-256 expected {expected}, got {got}: `{name}`")]
    Digest {
        /// The entry.
        name: String,
        /// The index's, in hexadecimal.
        expected: String,
        /// The file's.
        got: String,
    },
    /// An entry doesn't decode to what the index says.
    #[error("entry does not decode: {what}: `{name}`")]
    Decode {
        /// The entry.
        name: String,
        /// What the decoder said, or expected and got.
        what: String,
    },
    /// The manifest is not what the format says.
    #[error("manifest is corrupt: {what}")]
    Manifest {
        /// What the parser said.
        what: String,
    },
    /// A path that may not be in a bundle.
    #[error("name is not allowed in a bundle: {why}: `{name}`")]
    Name {
        /// The path, with bytes that aren't UTF-8 escaped.
        name: String,
        /// The rule.
        why: &'static str,
    },
    /// The writer was given something that contradicts its draft.
    #[error("cannot write the bundle: {what}")]
    Draft {
        /// The contradiction.
        what: String,
    },
}

impl Error {
    /// An [`Error::Index`].
    pub(crate) fn index(what: impl Into<String>) -> Self {
        Self::Index { what: what.into() }
    }

    /// An [`Error::Draft`].
    pub(crate) fn draft(what: impl Into<String>) -> Self {
        Self::Draft { what: what.into() }
    }
}
