//! Names in a folder, as far as `import` and `importlib.metadata` care.

use std::{collections::BTreeMap, ffi::OsStr, io, os::unix::ffi::OsStrExt as _, path::Path};

/// Entries of one folder that are looked at: a folder with more is no place for modules.
const MOST_ENTRIES: usize = 65_536;

/// What a folder has of one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one name may be all of these at once"
)]
pub(super) struct Kinds {
    /// A folder, or a link that may lead to one.
    pub(super) folder: bool,
    /// An extension module.
    pub(super) extension: bool,
    /// A `.py` file.
    pub(super) source: bool,
    /// A `.pyc` file.
    pub(super) bytecode: bool,
}

/// What lies in a folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The names that modules may have, in the same order every time.
    pub(super) names: BTreeMap<Vec<u8>, Kinds>,
    /// There is metadata of a distribution.
    pub(super) metadata: bool,
}

/// Lists a folder; `None` if it has too many entries. `extensions` are the suffixes of extension
/// modules.
pub(super) fn list(folder: &Path, extensions: &[String]) -> io::Result<Option<Listing>> {
    let mut listing = Listing::default();
    for (count, entry) in std::fs::read_dir(folder)?.enumerate() {
        if count >= MOST_ENTRIES {
            return Ok(None);
        }
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.file_type()?;
        add(&mut listing, &name, !kind.is_file(), extensions);
    }
    Ok(Some(listing))
}

fn add(listing: &mut Listing, name: &OsStr, may_be_folder: bool, extensions: &[String]) {
    let name = name.as_bytes();
    let lower = name.to_ascii_lowercase();
    listing.metadata |= lower.ends_with(b".dist-info") || lower.ends_with(b"egg-info");
    let mut set = |stem: &[u8], mark: fn(&mut Kinds)| {
        // Python takes the part of a module's name behind the last dot: no stem has one.
        if !stem.contains(&b'.') {
            mark(listing.names.entry(stem.to_vec()).or_default());
        }
    };
    for suffix in extensions {
        if let Some(stem) = name.strip_suffix(suffix.as_bytes()) {
            set(stem, |kinds| kinds.extension = true);
        }
    }
    if let Some(stem) = name.strip_suffix(b".py") {
        set(stem, |kinds| kinds.source = true);
    } else if let Some(stem) = name.strip_suffix(b".pyc") {
        set(stem, |kinds| kinds.bytecode = true);
    } else if may_be_folder {
        set(name, |kinds| kinds.folder = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cant_be_imported_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "a.py",
            "a.abi3.so",
            "b.pyc",
            "c.cpython-311.pyc",
            "data.csv",
            "plain",
            "d.so",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        for name in ["e", "f.d"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("plain", folder.path().join("g")).unwrap();
        let suffixes = [".abi3.so", ".so"].map(str::to_owned);
        let listing = list(folder.path(), &suffixes).unwrap().unwrap();
        let mut names: Vec<_> = listing.names.keys().map(Vec::as_slice).collect();
        names.sort_unstable();
        assert_eq!(names, [b"a", b"b", b"d", b"e", b"g"]);
        let both = Kinds {
            extension: true,
            source: true,
            ..Kinds::default()
        };
        assert_eq!(listing.names[b"a".as_slice()], both);
        assert!(listing.names[b"e".as_slice()].folder && listing.names[b"g".as_slice()].folder);
        assert!(!listing.metadata);
        std::fs::create_dir(folder.path().join("A-1.dist-info")).unwrap();
        assert!(list(folder.path(), &suffixes).unwrap().unwrap().metadata);
    }
}
