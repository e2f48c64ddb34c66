//! Bytecode that the interpreter has cached already (`__pycache__`, PEP 552).
//!
//! Reused only where the interpreter itself would use it *and* it is tied to the
//! source: by time and size, or by a checked hash. Unchecked hashes promise nothing.

use std::path::{Path, PathBuf};

use super::siphash::siphash;
use crate::marshal::PythonVersion;

/// Bytes before the marshalled code.
const HEADER: usize = 16;

/// What the interpreter knows of a source file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Time of its last change, in whole seconds.
    pub mtime: i64,
    /// Its length in bytes.
    pub size: u64,
}

/// Where the interpreter caches the bytecode of `source` for an optimisation level:
/// `a/b.py` → `a/__pycache__/b.cpython-311.opt-1.pyc`. `None` if `source` has no file name.
pub fn path(source: &Path, cache_tag: &str, optimize: u8) -> Option<PathBuf> {
    let mut name = source.file_stem()?.to_owned();
    name.push(".");
    name.push(cache_tag);
    if optimize > 0 {
        name.push(format!(".opt-{optimize}"));
    }
    name.push(".pyc");
    Some(source.parent()?.join("__pycache__").join(name))
}

/// The marshalled code in `pyc`, if it is valid for this source and interpreter.
pub fn valid<'a>(
    pyc: &'a [u8],
    magic: [u8; 4],
    version: PythonVersion,
    stamp: Stamp,
    source: &[u8],
) -> Option<&'a [u8]> {
    let (header, code) = pyc.split_at_checked(HEADER)?;
    let (magic_found, rest) = header.split_first_chunk::<4>()?;
    let (flags, rest) = rest.split_first_chunk::<4>()?;
    let tied = match u32::from_le_bytes(*flags) {
        0b00 => {
            // Both are stored modulo 2^32.
            let mtime = (stamp.mtime.cast_unsigned() as u32).to_le_bytes();
            let size = (stamp.size as u32).to_le_bytes();
            rest == [mtime, size].concat()
        }
        0b11 => rest == source_hash(magic, version, source).to_le_bytes(),
        _ => false,
    };
    (*magic_found == magic && tied && !code.is_empty()).then_some(code)
}

/// `_imp.source_hash` of an interpreter.
fn source_hash(magic: [u8; 4], version: PythonVersion, source: &[u8]) -> u64 {
    let key = u64::from(u32::from_le_bytes(magic));
    if (version.major, version.minor) < (3, 11) {
        siphash::<2>(key, source)
    } else {
        siphash::<1>(key, source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: [u8; 4] = *b"\xa7\x0d\x0d\x0a";
    const V311: PythonVersion = PythonVersion {
        major: 3,
        minor: 11,
    };
    const STAMP: Stamp = Stamp {
        mtime: 0x1_6543_2100,
        size: 6,
    };

    fn pyc(flags: u8, words: [u8; 8]) -> Vec<u8> {
        [MAGIC.as_slice(), &[flags, 0, 0, 0], &words, b"code"].concat()
    }

    fn check(pyc: &[u8], stamp: Stamp, source: &[u8]) -> bool {
        valid(pyc, MAGIC, V311, stamp, source) == Some(b"code")
    }

    #[test]
    fn names_as_the_interpreter_does() {
        let path = |source: &str, level| path(Path::new(source), "cpython-311", level);
        let expected = Path::new("/a/__pycache__/b.cpython-311.pyc");
        assert_eq!(path("/a/b.py", 0).as_deref(), Some(expected));
        let expected = Path::new("__pycache__/b.c.cpython-311.opt-2.pyc");
        assert_eq!(path("b.c.py", 2).as_deref(), Some(expected));
        assert_eq!(path("/", 0), None);
    }

    #[test]
    fn a_time_and_size_must_be_the_sources() {
        let good = pyc(0, *b"\x00\x21\x43\x65\x06\0\0\0");
        assert!(check(&good, STAMP, b""));
        assert!(!check(
            &good,
            Stamp {
                mtime: STAMP.mtime + 1,
                ..STAMP
            },
            b""
        ));
        assert!(!check(&good, Stamp { size: 7, ..STAMP }, b""));
        assert_eq!(valid(&good, *b"\xcb\x0d\x0d\x0a", V311, STAMP, b""), None);
        assert!((0..good.len() - 3).all(|end| !check(&good[..end], STAMP, b"")));
    }

    #[test]
    fn a_hash_must_be_checked_and_the_sources() {
        let hash = *b"\x4c\x03\x72\xaa\x93\xf7\x52\x52";
        assert!(check(&pyc(3, hash), STAMP, b"x = 1\n"));
        assert!(!check(&pyc(3, hash), STAMP, b"x = 2\n"));
        assert!(!check(&pyc(1, hash), STAMP, b"x = 1\n"));
        assert!(!check(&pyc(2, hash), STAMP, b"x = 1\n"));
    }
}
