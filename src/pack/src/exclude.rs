//! What `--exclude` keeps out.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use pybundle_bundle::name;

use crate::{Error, Result};

/// The globs of a request, compiled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exclude {
    /// Globs with a `/`: matched with the whole path.
    paths: GlobSet,
    /// Globs without: matched with the last name.
    names: GlobSet,
}

impl Exclude {
    /// Compiles globs. A `/` at an end is ignored.
    ///
    /// # Errors
    /// [`Error::Glob`].
    pub(crate) fn new(globs: &[String]) -> Result<Self> {
        let (mut paths, mut names) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for glob in globs {
            let refuse = |error: globset::Error| Error::Glob {
                glob: glob.clone(),
                what: error.kind().to_string(),
            };
            let set = if glob.trim_end_matches('/').contains('/') {
                &mut paths
            } else {
                &mut names
            };
            set.add(compile(glob.trim_matches('/')).map_err(refuse)?);
        }
        let refuse = |error: globset::Error| Error::Glob {
            glob: globs.join(" "),
            what: error.kind().to_string(),
        };
        Ok(Self {
            paths: paths.build().map_err(refuse)?,
            names: names.build().map_err(refuse)?,
        })
    }

    /// Is the file or folder at this path below the environment kept out?
    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        let as_path = |bytes| Path::new(OsStr::from_bytes(bytes));
        self.paths.is_match(as_path(path)) || self.names.is_match(as_path(name::split(path).1))
    }
}

fn compile(glob: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(glob).literal_separator(true).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_anywhere_and_paths_from_the_top() {
        let globs = ["tests/", "*.a", "share/*/doc", "/lib/**/x.py"].map(String::from);
        let exclude = Exclude::new(&globs).unwrap();
        for path in [
            "a/b/tests",
            "libx.a",
            "lib/libx.a",
            "share/q/doc",
            "lib/x.py",
            "lib/a/b/x.py",
        ] {
            assert!(exclude.matches(path.as_bytes()), "{path}");
        }
        for path in ["a/tests2", "share/q/r/doc", "x/share/q/doc", "x.py", "lib"] {
            assert!(!exclude.matches(path.as_bytes()), "{path}");
        }
        assert!(!Exclude::default().matches(b"a"));
    }

    #[test]
    fn a_broken_glob_is_named() {
        let error = Exclude::new(&["a[".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("`a[`"), "{error}");
    }
}
