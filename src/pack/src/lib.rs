//! Environment to bundle.
//!
//! [`pack`] walks an environment, decides what belongs together, compiles its modules with its own
//! interpreter, resolves its shared libraries and writes everything in the order in which a job
//! will want it. It needs neither MPI nor a linked Python, and the same environment gives the same
//! bytes whoever packs it.
//!
//! | module | answers |
//! | --- | --- |
//! | `environment` | is this an environment, and whose? |
//! | `site`, `interpreter` | what is its `sys.path`, which `.pth` lines are to be run, what is Python itself? |
//! | `scan`, `exclude`, `roots` | which files, links, folders; where do they go in the bundle? |
//! | `classify`, `distributions` | what is a file, to whom does it belong? |
//! | [`elf`], `libraries` | which libraries does each file need? |
//! | `groups` | what is placed together? |
//! | `modules` | what does each import find? |
//! | [`compile`], [`marshal`], `code` | what is its bytecode? |
//! | `previous`, `stamps` | what of the bundle that is replaced is still true? |
//! | `draft`, `write`, `target` | in which order, and into the file |
//! | `gather`, `stages` | what is to be packed; all of them, one after another |
//! | [`mod@diff`] | what would be packed otherwise now? |

pub mod compile;
pub mod diff;
pub mod elf;
pub mod error;
pub mod marshal;
pub mod progress;
pub mod request;
pub mod summary;

mod classify;
mod code;
mod content;
mod distributions;
mod draft;
mod environment;
mod exclude;
mod gather;
mod groups;
mod interpreter;
mod libraries;
mod modules;
mod previous;
mod roots;
mod scan;
mod site;
mod stages;
mod stamps;
mod target;
mod write;

pub use diff::{Aspect, Change, Changes, Differences, Versions, diff};
pub use error::{Error, Result};
pub use previous::Kept;
pub use progress::{Phase, Progress};
pub use request::{DEFAULT_LEVEL, LEVELS, Request};
pub use stages::pack;
pub use summary::{CodeCounts, Reason, Seconds, Skipped, Summary};

/// What a manifest names as its writer.
const WRITER: &str = concat!("pybundle ", env!("CARGO_PKG_VERSION"));
