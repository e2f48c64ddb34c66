//! `.pyc` files that importlib would take, by importlib's own rules.

use std::{
    ffi::{OsStr, OsString},
    fs::{File, Metadata},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use pyo3::{prelude::*, types::PyBytes};

/// Magic number, flags, and time with size or a hash.
const HEADER: usize = 16;

/// What the running interpreter says of bytecode.
pub(crate) struct Bytecode {
    /// The first bytes of every file that it takes.
    pub(crate) magic: Vec<u8>,
    /// `sys.flags.optimize`.
    pub(crate) optimize: u8,
    /// Suffixes of extension modules.
    pub(crate) extensions: Vec<String>,
    /// `--check-hash-based-pycs`.
    checks: String,
    /// It keeps bytecode in files.
    caches: bool,
    /// How to ask it more: unit tests are linked without one.
    ask: Questions,
}

/// What only an interpreter can answer.
#[derive(Clone, Copy)]
struct Questions {
    /// Where it would keep the bytecode of a source: follows its prefix and level.
    cached_path: fn(&OsStr) -> Option<PathBuf>,
    source_hash: fn(&[u8]) -> Option<Vec<u8>>,
}

impl Bytecode {
    /// Asks the running interpreter.
    pub(crate) fn of(py: Python<'_>) -> PyResult<Self> {
        let external = py.import("_frozen_importlib_external")?;
        let imp = py.import("_imp")?;
        let sys = py.import("sys")?;
        let optimize = sys.getattr("flags")?.getattr("optimize")?;
        Ok(Self {
            magic: external.getattr("MAGIC_NUMBER")?.extract()?,
            optimize: optimize.extract()?,
            extensions: imp.call_method0("extension_suffixes")?.extract()?,
            checks: imp.getattr("check_hash_based_pycs")?.extract()?,
            caches: !sys
                .getattr("implementation")?
                .getattr("cache_tag")?
                .is_none(),
            ask: Questions {
                cached_path,
                source_hash,
            },
        })
    }

    /// For tests without an interpreter: there is no bytecode.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self {
            magic: Vec::new(),
            optimize: 0,
            extensions: vec![".so".to_owned()],
            checks: String::new(),
            caches: false,
            ask: Questions::UNANSWERED,
        }
    }

    /// The code of a source file from its `.pyc` file, marshalled, if that is valid.
    pub(super) fn cached(
        &self,
        source: &Path,
        found: &Metadata,
        text: &[u8],
        most: u64,
    ) -> Option<Vec<u8>> {
        if !self.caches {
            return None;
        }
        let path = (self.ask.cached_path)(source.as_os_str())?;
        let mut content = Vec::new();
        let file = File::open(path).ok()?;
        let len = file.metadata().ok().filter(Metadata::is_file)?.len();
        if len > most {
            return None;
        }
        file.take(most).read_to_end(&mut content).ok()?;
        let header = content.first_chunk::<HEADER>()?;
        if !self.is_valid(header, found, text) {
            return None;
        }
        Some(content.split_off(HEADER))
    }

    fn is_valid(&self, header: &[u8; HEADER], found: &Metadata, text: &[u8]) -> bool {
        let word = |at: usize| {
            let bytes = header[at..].first_chunk().copied().unwrap_or_default();
            u32::from_le_bytes(bytes)
        };
        if header[..4] != *self.magic {
            return false;
        }
        match word(4) {
            // The file holds the low bits alone.
            0 => word(8) == found.mtime().cast_unsigned() as u32 && word(12) == found.size() as u32,
            // Hashed: checked unless the file or the user says no.
            flags @ (1 | 3) => {
                let asked = flags == 3 || self.checks == "always";
                self.checks == "never"
                    || !asked
                    || (self.ask.source_hash)(text).as_deref() == Some(&header[8..])
            }
            _ => false,
        }
    }
}

#[cfg(test)]
impl Questions {
    /// There is no interpreter.
    const UNANSWERED: Self = Self {
        cached_path: |_| None,
        source_hash: |_| None,
    };
}

fn cached_path(source: &OsStr) -> Option<PathBuf> {
    Python::attach(|py| -> PyResult<OsString> {
        let external = py.import("_frozen_importlib_external")?;
        external
            .call_method1("cache_from_source", (source,))?
            .extract()
    })
    .ok()
    .map(PathBuf::from)
}

fn source_hash(text: &[u8]) -> Option<Vec<u8>> {
    Python::attach(|py| -> PyResult<Vec<u8>> {
        let util = py.import("importlib.util")?;
        util.call_method1("source_hash", (PyBytes::new(py, text),))?
            .extract()
    })
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_must_agree() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("a.py");
        std::fs::write(&source, "A = 1\n").unwrap();
        let found = source.metadata().unwrap();
        let bytecode = Bytecode {
            magic: b"magi".to_vec(),
            optimize: 0,
            extensions: Vec::new(),
            checks: "default".to_owned(),
            caches: true,
            ask: Questions::UNANSWERED,
        };
        let header = |magic: &[u8], flags: u32, time: u32, size: u32| -> [u8; HEADER] {
            let numbers = [flags, time, size].map(u32::to_le_bytes).concat();
            [magic, &numbers].concat().try_into().unwrap()
        };
        let (time, size) = (found.mtime().cast_unsigned() as u32, found.size() as u32);
        let valid = |header| bytecode.is_valid(&header, &found, b"A = 1\n");
        assert!(valid(header(b"magi", 0, time, size)));
        assert!(!valid(header(b"else", 0, time, size)));
        assert!(!valid(header(b"magi", 0, time + 1, size)));
        assert!(!valid(header(b"magi", 0, time, size + 1)));
        assert!(!valid(header(b"magi", 4, time, size)));
        // Hashed and not to be checked.
        assert!(valid(header(b"magi", 1, 0, 0)));
    }
}
