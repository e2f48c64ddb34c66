//! Is this an environment, and whose?

use std::path::{Path, PathBuf};

use fs_err as fs;
use pybundle_bundle::manifest::Python;

use crate::{
    Error, Result,
    compile::{Interpreter, find_interpreter, probe},
};

/// CPython versions that can be packed: first and last minor of 3.
const MINORS: std::ops::RangeInclusive<u8> = 9..=14;

/// An environment that can be packed.
#[derive(Debug)]
pub(crate) struct Environment {
    /// Absolute, as given.
    pub(crate) given: PathBuf,
    /// Symlinks resolved.
    pub(crate) real: PathBuf,
    /// Its interpreter's file.
    pub(crate) interpreter: PathBuf,
    /// What the interpreter says.
    pub(crate) python: Interpreter,
}

impl Environment {
    /// Looks at a folder and asks its interpreter.
    ///
    /// # Errors
    /// [`Error::Probe`], [`Error::Unsupported`], [`Error::NotItsPrefix`].
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let given = std::path::absolute(path)?.components().collect::<PathBuf>();
        let interpreter = find_interpreter(&given)?;
        let real = fs::canonicalize(&given)?;
        let python = probe(&interpreter)?;
        supported(&python).map_err(|got| Error::Unsupported {
            path: path.to_owned(),
            expected: "CPython 3.9 to 3.14 with the global interpreter lock",
            got,
        })?;
        if fs::canonicalize(&python.prefix).ok().as_ref() != Some(&real) {
            return Err(Error::NotItsPrefix {
                path: path.to_owned(),
                prefix: python.prefix,
            });
        }
        Ok(Self {
            given,
            real,
            interpreter,
            python,
        })
    }

    /// As the manifest has it, as long as nothing of the interpreter itself is packed.
    pub(crate) fn to_manifest(&self) -> Python {
        let python = &self.python;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        Python {
            implementation: python.implementation.clone(),
            version: version(python),
            version_text: python.full_version.clone(),
            cache_tag: python.cache_tag.clone().unwrap_or_default(),
            magic: python.magic.clone(),
            soabi: python.soabi.clone().unwrap_or_default(),
            platform: python.platform.clone(),
            free_threaded: python.free_threaded,
            extension_suffixes: python.extension_suffixes.clone(),
            prefix: text(&python.prefix),
            base_prefix: text(&python.base_prefix),
            executable: None,
            libpython: None,
            builds: Vec::new(),
        }
    }
}

/// `3.11.7`.
pub(crate) fn version(python: &Interpreter) -> String {
    python.version.map(|number| number.to_string()).join(".")
}

/// What it is instead, if it isn't supported.
fn supported(python: &Interpreter) -> Result<(), String> {
    let [major, minor, _] = python.version;
    if python.implementation != "cpython" {
        Err(format!("{} {}", python.implementation, version(python)))
    } else if major != 3 || !MINORS.contains(&minor) {
        Err(format!("CPython {}", version(python)))
    } else if python.free_threaded {
        Err(format!(
            "CPython {} without it (free-threaded)",
            version(python)
        ))
    } else {
        Ok(())
    }
}
