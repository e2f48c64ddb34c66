//! The bundle of an image that is there already, recognised without being read.
//!
//! An image remembers the stamp of the bundle that it was made from: device, inode, length, times.
//! A bundle with the same stamp is the same: what was validated once need not be read again.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pybundle_bundle::{Identity, Manifest};
use serde::{Deserialize, Serialize};

use crate::{
    folder::Home,
    image::site::{self, MANIFEST},
    plan::Sizes,
};

/// A file that changed more recently might change again without a new time.
const SETTLED: Duration = Duration::from_secs(2);

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of a file that has not changed for a while.
    pub(crate) fn of(file: &Metadata) -> Option<Self> {
        let changed = Duration::try_from_secs_f64(file.ctime() as f64).ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        (changed + SETTLED < now).then(|| Self {
            device: file.dev(),
            inode: file.ino(),
            len: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}

/// What an image knows of its bundle: its file `source`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    /// Its path: bytes, since a path need not be text.
    pub(crate) bundle: Vec<u8>,
    /// Its stamp, where root saw it.
    pub(crate) stamp: Option<Stamp>,
    /// Its numbers.
    pub(crate) sizes: Sizes,
}

/// A bundle that needs no reading.
pub(crate) struct Known {
    /// Names it.
    pub(crate) identity: Identity,
    /// Its numbers.
    pub(crate) sizes: Sizes,
    /// What it says of itself.
    pub(crate) manifest: Manifest,
}

/// Finds a complete image of the bundle with this stamp in one of the folders.
pub(crate) fn find(stamp: Stamp, folders: &[PathBuf]) -> Option<Known> {
    let homes = folders.iter().filter_map(|folder| Home::find(folder));
    let images = homes.filter_map(|home| fs::read_dir(home.path()).ok());
    let mut dirs = images.flatten().flatten().map(|entry| entry.path());
    dirs.find_map(|dir| {
        let source = site::read_source(&dir).ok()?;
        if source.stamp != Some(stamp) {
            return None;
        }
        let identity = site::identity_of_complete(&dir)?;
        let manifest = Manifest::from_bytes(&fs::read(dir.join(MANIFEST)).ok()?).ok()?;
        Some(Known {
            identity,
            sizes: source.sizes,
            manifest,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_has_just_changed_has_no_stamp() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(Stamp::of(&file.as_file().metadata().unwrap()), None);
        let old = fs::metadata(std::env::current_exe().unwrap().parent().unwrap()).unwrap();
        let _ = Stamp::of(&old);
        let root = fs::metadata("/usr").unwrap();
        assert_eq!(Stamp::of(&root), Stamp::of(&fs::metadata("/usr").unwrap()));
    }
}
