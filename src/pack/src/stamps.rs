//! What a packing saw of its files, kept for the next one.
//!
//! The bundle's bytes must not depend on times and inodes, so these lie in a cache folder, one file
//! for each place of a bundle, and name the bundle that they belong to. Nobody needs them: without
//! them the next packing compares contents.

use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fs_err as fs;
use pybundle_bundle::{Identity, name};
use serde::{Deserialize, Serialize};

use crate::{
    libraries::Read,
    scan::{Found, Stamp, Tree, What},
};

/// Version of the file's form.
const VERSION: u32 = 1;

/// A file that was changed so shortly before it was looked at may change again within the same tick
/// of its file system's clock.
const SETTLED: Duration = Duration::from_secs(2);

/// What was not written for so long belongs to a bundle that nobody packs any more.
const FORGOTTEN: Duration = Duration::from_secs(90 * 24 * 3600);

/// More than this is no record of ours.
const LARGEST: u64 = 1 << 30;

/// The files of one packing.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stamps {
    version: u32,
    /// Of the bundle.
    identity: String,
    /// By path in the bundle, escaped.
    files: HashMap<String, Seen>,
}

/// One file as it was.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    stamp: Stamp,
    /// What it says of itself as a library, if that was looked at.
    elf: Option<Read>,
}

impl Stamps {
    /// The record of the bundle at `output`, if it is the one of this identity.
    pub(crate) fn load(cache: &Path, output: &Path, identity: &Identity) -> Option<Self> {
        let packed = fs::read(path(cache, output)).ok()?;
        let mut text = Vec::new();
        let unpacked = zstd::Decoder::new(&packed[..]).ok()?;
        unpacked.take(LARGEST).read_to_end(&mut text).ok()?;
        let stamps: Self = serde_json::from_slice(&text).ok()?;
        let ours = stamps.version == VERSION && stamps.identity == identity.to_string();
        ours.then_some(stamps)
    }

    /// What a packing that began at `began` has seen. Leaves out what changed too shortly before.
    pub(crate) fn new(tree: &Tree, read: &HashMap<Vec<u8>, Read>, began: SystemTime) -> Self {
        let settled = began.checked_sub(SETTLED).unwrap_or(UNIX_EPOCH);
        let settled = settled.duration_since(UNIX_EPOCH).unwrap_or_default();
        let settled = (
            settled.as_secs().cast_signed(),
            i64::from(settled.subsec_nanos()),
        );
        let files = tree.iter().filter_map(|found| match found.what {
            What::File(stamp) if stamp.modified < settled && stamp.changed < settled => {
                let elf = read.get(&found.path).cloned();
                Some((name::escape(&found.path), Seen { stamp, elf }))
            }
            _ => None,
        });
        Self {
            version: VERSION,
            identity: String::new(),
            files: files.collect(),
        }
    }

    /// Keeps the record for the bundle at `output`.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn save(
        mut self,
        cache: &Path,
        output: &Path,
        identity: &Identity,
    ) -> io::Result<()> {
        let path = path(cache, output);
        self.identity = identity.to_string();
        let text = serde_json::to_vec(&self)?;
        fs::create_dir_all(cache)?;
        sweep(cache);
        // Another packing may be reading or writing it.
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let write = || {
            let mut file = fs::File::create(&new)?;
            file.write_all(&zstd::bulk::compress(&text, 1)?)?;
            fs::rename(&new, &path)
        };
        write().inspect_err(|_| drop(fs::remove_file(&new)))
    }

    /// Was the file the same, as far as its stamp tells?
    pub(crate) fn is_same(&self, found: &Found) -> bool {
        self.seen(found).is_some()
    }

    /// What an unchanged file says of itself as a library.
    pub(crate) fn elf(&self, found: &Found) -> Option<&Read> {
        self.seen(found)?.elf.as_ref()
    }

    fn seen(&self, found: &Found) -> Option<&Seen> {
        let seen = self.files.get(&name::escape(&found.path))?;
        (found.what == What::File(seen.stamp)).then_some(seen)
    }
}

/// Where the record of a bundle lies.
fn path(cache: &Path, output: &Path) -> PathBuf {
    let name = Identity::of(output.as_os_str().as_encoded_bytes()).to_string();
    cache.join(format!("{}.zst", &name[..32]))
}

/// Removes records that are long forgotten.
fn sweep(folder: &Path) {
    let Ok(items) = fs::read_dir(folder) else {
        return;
    };
    for item in items.flatten() {
        let age = item.metadata().ok().and_then(|data| data.modified().ok());
        if age.is_some_and(|time| time.elapsed().is_ok_and(|age| age > FORGOTTEN)) {
            // Somebody else may have been quicker.
            let _ = fs::remove_file(item.path());
        }
    }
}
