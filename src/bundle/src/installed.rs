//! What is installed in a folder, told by the names in it: one reading of the folder shows that it
//! has changed.
//!
//! Every installer names a distribution's metadata after it and its version, so that adding,
//! upgrading or removing one changes a name. Names are the same wherever the same was installed;
//! times are not.

use std::{ffi::OsStr, io, os::unix::ffi::OsStrExt as _, path::Path};

use fs_err as fs;

use crate::{Identity, digest};

/// A folder with more names than this is not read to its end.
pub const MOST: usize = 10_000;

/// Ours, which starts programs from a bundle and is put into environments that were packed before.
const OURS: &[u8] = b"pybundle.pth";

/// The digest of the names directly in `folder`, in hexadecimal; `None` if there are more than
/// [`MOST`].
///
/// # Errors
/// The folder's, if it can't be read.
pub fn names(folder: &Path) -> io::Result<Option<String>> {
    let mut names = Vec::new();
    for (number, item) in fs::read_dir(folder)?.enumerate() {
        if number == MOST {
            return Ok(None);
        }
        let name = item?.file_name();
        if tells(&name) {
            names.push(name);
        }
    }
    names.sort();
    let mut text = Vec::new();
    for name in names {
        text.extend(name.as_bytes());
        text.push(0);
    }
    Ok(Some(Identity(digest(&text)).to_string()))
}

/// Does a name say what is installed?
fn tells(name: &OsStr) -> bool {
    let ends = [&b".dist-info"[..], b".egg-info", b".egg-link", b".pth"];
    let name = name.as_bytes();
    ends.iter().any(|end| name.ends_with(end)) && name != OURS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_tells_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let now = || names(folder.path()).unwrap().unwrap();
        // SHA-256 of nothing.
        assert!(now().starts_with("e3b0c44298fc1c14"));
        let mut last = now();
        for name in ["b-1.dist-info", "a-1.egg-info", "a.pth", "q.egg-link"] {
            fs::write(folder.path().join(name), "").unwrap();
            assert_ne!(now(), last, "{name}");
            last = now();
        }
        for name in [
            "__pycache__",
            "a.py",
            "dist-info",
            "pybundle.pth",
            "x.pth.bak",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
            assert_eq!(now(), last, "{name}");
        }
        // An upgrade; and back.
        let (old, new) = (
            folder.path().join("b-1.dist-info"),
            folder.path().join("b-2.dist-info"),
        );
        fs::rename(&old, &new).unwrap();
        assert_ne!(now(), last);
        fs::rename(&new, &old).unwrap();
        assert_eq!(now(), last);
        // As FORMAT.md says.
        let text = b"a-1.egg-info\0a.pth\0b-1.dist-info\0q.egg-link\0";
        assert_eq!(now(), Identity(digest(text)).to_string());
    }

    #[test]
    fn a_folder_of_too_many_names_tells_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..=MOST {
            fs::write(folder.path().join(number.to_string()), "").unwrap();
        }
        assert_eq!(names(folder.path()).unwrap(), None);
        fs::remove_file(folder.path().join("0")).unwrap();
        assert!(names(folder.path()).unwrap().is_some());
        assert!(names(&folder.path().join("absent")).is_err());
    }
}
