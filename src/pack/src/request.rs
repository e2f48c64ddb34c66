//! What is to be packed, and how.

use std::path::{Path, PathBuf};

/// zstd level where none is given: the lowest whose bundle of a scientific environment is smaller
/// than a squashfs image (zstd 15, its default). One step less is a fifth faster and 1 % larger,
/// three more are twice as slow and 1 % smaller.
pub const DEFAULT_LEVEL: i32 = 9;

/// The levels that are accepted.
pub const LEVELS: std::ops::RangeInclusive<i32> = 1..=22;

/// One call of [`pack`](crate::pack).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The environment's folder.
    pub environment: PathBuf,
    /// The bundle; where `None`, see [`Request::default_output`].
    pub output: Option<PathBuf>,
    /// zstd level, one of [`LEVELS`].
    pub level: i32,
    /// Globs of what stays out. One with a `/` is matched with the path below the environment (`*`
    /// stays within a name, `**` doesn't); one without is matched with each file's and folder's
    /// name. What lies below a matched folder stays out too.
    pub exclude: Vec<String>,
    /// Pack the standard library and the interpreter too where they lie outside the environment.
    pub stdlib: bool,
    /// Compare contents with those of the bundle that is replaced, whatever the files' times say.
    pub check: bool,
    /// Folder in which the files' sizes and times are kept for the next packing; `None`: nowhere, and
    /// contents are compared.
    pub cache: Option<PathBuf>,
    /// Threads; where `None`, one for each core. The bytes of the bundle don't depend on it.
    pub jobs: Option<usize>,
}

impl Request {
    /// Packs `environment` with every option at its default.
    pub fn new(environment: impl Into<PathBuf>) -> Self {
        Self {
            environment: environment.into(),
            output: None,
            level: DEFAULT_LEVEL,
            exclude: Vec::new(),
            stdlib: true,
            check: false,
            cache: None,
            jobs: None,
        }
    }

    /// `ENV.pybundle` beside the environment: `/envs/a/` gives `/envs/a.pybundle`.
    #[must_use]
    pub fn default_output(environment: &Path) -> PathBuf {
        // `components` drops a trailing slash, which `with_file_name` would trip over.
        let environment: PathBuf = environment.components().collect();
        let mut name = environment
            .file_name()
            .unwrap_or("environment".as_ref())
            .to_owned();
        name.push(".pybundle");
        environment.with_file_name(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_lies_beside_the_environment() {
        for (environment, output) in [
            ("/envs/a/", "/envs/a.pybundle"),
            ("a", "a.pybundle"),
            ("x/b.c", "x/b.c.pybundle"),
        ] {
            let got = Request::default_output(Path::new(environment));
            assert_eq!(got, Path::new(output));
        }
    }
}
