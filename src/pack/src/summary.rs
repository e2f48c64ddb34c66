//! What a packing did, for people and tools.

use std::path::PathBuf;

use serde::Serialize;

use crate::Kept;

/// The result of [`pack`](crate::pack).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// The bundle.
    pub output: PathBuf,
    /// The bundle's identity, 64 hexadecimal digits.
    pub identity: String,
    /// Regular files packed.
    pub files: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Bytes of the bundle.
    pub bytes_out: u64,
    /// What of it was copied from the bundle that it replaces.
    pub kept: Kept,
    /// Symlinks packed.
    pub links: u64,
    /// Modules and packages that an import can find, extension modules included.
    pub modules: u64,
    /// Where the modules' bytecode comes from.
    pub code: CodeCounts,
    /// Placing groups: distributions, their tests, files of no distribution.
    pub groups: u64,
    /// zstd level.
    pub level: i32,
    /// Threads.
    pub jobs: usize,
    /// The version of the environment's Python, as in `3.11.7`.
    pub python: String,
    /// What was left out or not packed as it is, sorted by path.
    pub skipped: Vec<Skipped>,
    /// What may go wrong when the bundle runs, in sentences.
    pub warnings: Vec<String>,
    /// Seconds spent.
    pub seconds: Seconds,
}

/// Bytecode by origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CodeCounts {
    /// Modules whose bytecode the replaced bundle had.
    pub kept: u64,
    /// Modules whose `__pycache__` file was valid.
    pub reused: u64,
    /// Modules that were compiled.
    pub compiled: u64,
    /// Modules whose source doesn't compile: packed as source alone.
    pub uncompiled: u64,
    /// Bytes of packed bytecode, before compression.
    pub bytes: u64,
    /// The same, compressed.
    pub stored: u64,
}

/// Something that isn't in the bundle as it is in the environment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Skipped {
    /// Path below the environment, with bytes that aren't UTF-8 escaped.
    pub path: String,
    /// Why.
    pub reason: Reason,
    /// Particulars: the target of a link, the parser's message; may be empty.
    pub detail: String,
}

/// Why something isn't in the bundle as it is in the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Neither file, folder nor symlink: a socket, fifo or device.
    Special,
    /// A name that a bundle can't hold.
    Name,
    /// An `--exclude` glob matches.
    Excluded,
    /// A symlink that names nothing; packed as it is.
    Dangling,
    /// A symlink that leads out of the environment; packed as it is, its target isn't.
    LeadsOut,
    /// A symlink to a folder above itself: nothing is looked up through it.
    Circular,
    /// A source that doesn't compile; packed without bytecode.
    DoesNotCompile,
    /// The folder of an editable install: the program's own code, read where it is at each run.
    Editable,
    /// Another environment, or conda's cache of packages.
    Nested,
}

impl Reason {
    /// Words for people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Special => "not a file, folder or symlink",
            Self::Name => "name not allowed in a bundle",
            Self::Excluded => "excluded",
            Self::Dangling => "symlink names nothing",
            Self::LeadsOut => "symlink leads out of the environment",
            Self::Circular => "symlink to a folder above itself",
            Self::DoesNotCompile => "source does not compile",
            Self::Editable => "editable install, read where it is",
            Self::Nested => "another environment",
        }
    }
}

/// Wall-clock seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Seconds {
    /// Asking the interpreter, walking the environment, reading metadata.
    pub scan: f64,
    /// Reading what shared libraries need.
    pub libraries: f64,
    /// Reusing and compiling bytecode, compressing it.
    pub compile: f64,
    /// Compressing and writing files.
    pub write: f64,
    /// All of it.
    pub total: f64,
}
