//! The report of a run.

use std::path::Path;

use crate::Result;

/// The receipt at `path` and the parts of other nodes beside it, as a table for people.
///
/// # Errors
/// [`crate::Error::Io`], or [`crate::Error::Receipt`] for a file that is none.
pub fn text(path: &Path) -> Result<String> {
    let _ = path;
    todo!()
}

/// The same as an HTML page with a timeline.
///
/// # Errors
/// As [`text`].
pub fn html(path: &Path) -> Result<String> {
    let _ = path;
    todo!()
}
