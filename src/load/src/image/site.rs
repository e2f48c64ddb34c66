//! An image's folder, locked: found, joined or made.
//!
//! ```text
//! FOLDER/pybundle-UID/lock              held while images are made or removed
//! FOLDER/pybundle-UID/IDENTITY16/       first 16 digits of the bundle's identity
//!     lock  claims  state               who holds it, who decodes what, what is in place
//!     index  manifest.json  source      of the bundle; `source` is where it lies, and its stamp
//!     code  tree/                       decoded
//!     packed                            compressed, at the bundle's own offsets, with holes
//!     jobs/  boot/  kept                counts of each job; for other Pythons; never removed by itself
//!     starts                            what the packed interpreter reads by itself is placed
//! ```

use std::{
    ffi::OsString,
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pybundle_bundle::Identity;

use super::{lock::Lock, state::State, sweep};
use crate::{
    Error, Result,
    error::io_at,
    folder::{Home, check_private},
    known::Source,
};

pub(crate) const CLAIMS: &str = "claims";
pub(crate) const STATE: &str = "state";
pub(crate) const INDEX: &str = "index";
pub(crate) const MANIFEST: &str = "manifest.json";
const SOURCE: &str = "source";
pub(crate) const CODE: &str = "code";
pub(crate) const TREE: &str = "tree";
pub(crate) const PACKED: &str = "packed";
pub(crate) const JOBS: &str = "jobs";
pub(crate) const KEPT: &str = "kept";

/// A locked image, complete or being loaded.
#[derive(Debug)]
pub(crate) struct Site {
    dir: PathBuf,
    tree: PathBuf,
    state: State,
    lock: Mutex<Option<Lock>>,
}

impl Site {
    /// Attaches to the image at `dir`, complete or not.
    pub(crate) fn attach(dir: &Path) -> Result<Self> {
        check_private(dir)?;
        let lock = Lock::shared(dir)?;
        let state = open_state(dir)?;
        Ok(Self::new(dir, lock, state))
    }

    /// The image of this bundle in `home`: the one that is there, or a new one if `room` lets us.
    /// Images that nobody holds are swept first.
    pub(crate) fn join_or_create(
        home: &Home,
        identity: Identity,
        source: &Source,
        room: impl FnOnce() -> Result<()>,
    ) -> Result<Self> {
        let dir = home.path().join(identity.short());
        let user = home.lock()?;
        sweep::leftovers(home, &dir)?;
        if let Some(site) = Self::join(&dir, identity)? {
            // Only to save the next one some reading.
            let _ = site.remember(source);
            return Ok(site);
        }
        let made = room().and_then(|()| Self::create(&dir, identity, source));
        if made.is_err() {
            // Nobody has seen it: the user's lock is ours.
            let _ = std::fs::remove_dir_all(&dir);
            sweep::tidy(home.path(), user);
        }
        made
    }

    /// Joins the image at `dir`; `None` if there is none, or only the remains of one, which are
    /// removed. Under the user's lock.
    fn join(dir: &Path, identity: Identity) -> Result<Option<Self>> {
        match check_private(dir) {
            Ok(()) => {}
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        // No `Site` before it is clear that it stays: dropping one would wait for the user's lock.
        let lock = match Lock::try_exclusive(dir) {
            Ok(Some(lock)) if Self::is_whole(dir, identity) && !is_over(dir) => lock.share()?,
            Ok(None) => Lock::shared(dir)?,
            // Nobody holds it, and it is not complete, past its limit, or of another boot or layout.
            Ok(Some(_)) | Err(_) => {
                sweep::remove(dir)?;
                return Ok(None);
            }
        };
        let state = open_state(dir)?;
        if state.identity() == identity {
            return Ok(Some(Self::new(dir, lock, state)));
        }
        Err(Error::Image {
            path: dir.to_owned(),
            why: "it belongs to another bundle whose identity begins alike".to_owned(),
        })
    }

    fn is_whole(dir: &Path, identity: Identity) -> bool {
        identity_of_complete(dir) == Some(identity)
    }

    fn create(dir: &Path, identity: Identity, source: &Source) -> Result<Self> {
        let make = |path: &Path| {
            let made = DirBuilder::new().mode(0o700).create(path);
            made.map_err(|error| io_at("cannot make", path, error))
        };
        make(dir)?;
        let lock = Lock::create(dir)?;
        for name in [TREE, JOBS] {
            make(&dir.join(name))?;
        }
        new_file(&dir.join(CLAIMS))?;
        write_source(&dir.join(SOURCE), source)?;
        let path = dir.join(STATE);
        let state = State::create(&new_file(&path)?, identity, &source.sizes)
            .map_err(|error| at("cannot make", &path, error))?;
        Ok(Self::new(dir, lock, state))
    }

    /// From now on it is found by what root has read this time: another copy of the bundle than the
    /// one it was made from, or the same one, which had only just been written then. Under the
    /// user's lock.
    fn remember(&self, source: &Source) -> Result<()> {
        if source.stamp.is_none() || read_source(&self.dir)?.stamp == source.stamp {
            return Ok(());
        }
        let new = self.dir.join(SOURCE).with_extension("new");
        let _ = std::fs::remove_file(&new);
        write_source(&new, source)?;
        Ok(fs_err::rename(new, self.dir.join(SOURCE))?)
    }

    fn new(dir: &Path, lock: Lock, state: State) -> Self {
        Self {
            dir: dir.to_owned(),
            tree: dir.join(TREE),
            state,
            lock: Mutex::new(Some(lock)),
        }
    }

    /// The image's folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder of placed files.
    pub(crate) fn tree(&self) -> &Path {
        &self.tree
    }

    /// What is in place.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Bytes put into every module's file name: the tree's path and a slash.
    pub(crate) fn prefix(&self) -> Vec<u8> {
        [self.tree.as_os_str().as_bytes(), b"/"].concat()
    }

    /// The bundle's path.
    pub(crate) fn source(&self) -> Result<PathBuf> {
        source(&self.dir)
    }

    /// Writes index and manifest and makes room for the code, unless another job has done so.
    pub(crate) fn prepare(&self, index: &[u8], manifest: &[u8], code_len: u64) -> Result<()> {
        if self.state.is_prepared() {
            return Ok(());
        }
        // Two jobs may be here at once: each file appears whole, and both write the same.
        for (name, bytes) in [(INDEX, index), (MANIFEST, manifest)] {
            let private = self.dir.join(format!("{name}.{:x}", crate::nodes::nonce()));
            write_file(&private, bytes)?;
            let path = self.dir.join(name);
            std::fs::rename(&private, &path).map_err(|error| io_at("cannot make", &path, error))?;
        }
        for (name, len) in [(CODE, code_len), (PACKED, 0)] {
            let path = self.dir.join(name);
            let file = open_or_make(&path)?;
            if file.metadata()?.len() < len {
                file.set_len(len)
                    .map_err(|error| io_at("cannot make", &path, error))?;
            }
        }
        self.state.set_prepared(code_len);
        Ok(())
    }

    /// Nobody removes the image by leaving it, or only after a limit.
    pub(crate) fn keep(&self, limit: Option<Duration>) -> Result<()> {
        let path = self.dir.join(KEPT);
        let end = limit.and_then(|limit| SystemTime::now().checked_add(limit));
        let end = end.and_then(|end| end.duration_since(UNIX_EPOCH).ok());
        let text = end.map_or_else(String::new, |end| end.as_secs().to_string());
        let file = open_or_make(&path)?;
        file.set_len(0)
            .and_then(|()| io::Write::write_all(&mut &file, text.as_bytes()))
            .map_err(|error| io_at("cannot write", &path, error))
    }

    /// Takes a new share of the lock before the one inherited from the parent is closed.
    pub(crate) fn relock(&self) -> Result<()> {
        let fresh = Lock::shared(&self.dir)?;
        // Another thread of the parent may have been inside at the fork: it doesn't exist here.
        if let Ok(mut lock) = self.lock.try_lock() {
            *lock = Some(fresh);
        } else {
            std::mem::forget(fresh);
        }
        Ok(())
    }

    /// Gives the share back, and removes the image if it was the last and it isn't kept.
    pub(crate) fn leave(&self) {
        let lock = self
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if lock.is_some() {
            drop(lock);
            sweep::last_one_out(&self.dir);
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The path of the bundle that the image at `dir` was made from.
pub(super) fn source(dir: &Path) -> Result<PathBuf> {
    Ok(OsString::from_vec(read_source(dir)?.bundle).into())
}

/// What the image at `dir` knows of its bundle.
pub(crate) fn read_source(dir: &Path) -> Result<Source> {
    let path = dir.join(SOURCE);
    serde_json::from_slice(&fs_err::read(&path)?).map_err(|error| Error::Image {
        path,
        why: error.to_string(),
    })
}

fn write_source(path: &Path, source: &Source) -> Result<()> {
    let json = serde_json::to_vec(source).map_err(|error| Error::Internal(error.to_string()))?;
    write_file(path, &json)
}

/// Is it to stay when nobody holds it? Not beyond the limit that was set for it.
pub(super) fn is_kept(dir: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(dir.join(KEPT)) else {
        return false;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs());
    text.trim().parse::<u64>().map_or(true, |end| now < end)
}

/// Is it a complete image of this boot and layout?
pub(super) fn is_complete(dir: &Path) -> bool {
    identity_of_complete(dir).is_some()
}

/// The identity of a complete image.
pub(crate) fn identity_of_complete(dir: &Path) -> Option<Identity> {
    check_private(dir).ok()?;
    let state = open_state(dir).ok()?;
    state.is_complete().then(|| state.identity())
}

/// Has an image that was to be kept for a while outlived its limit?
fn is_over(dir: &Path) -> bool {
    dir.join(KEPT).exists() && !is_kept(dir)
}

fn open_state(dir: &Path) -> Result<State> {
    State::open(&open_file(&dir.join(STATE))?, dir)
}

fn at(what: &'static str, path: &Path, error: Error) -> Error {
    match error {
        Error::Io(error) => io_at(what, path, error),
        error => error,
    }
}

/// Opens a file of the image for reading and writing.
pub(crate) fn open_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(|error| io_at("cannot open", path, error))
}

fn open_or_make(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(|error| io_at("cannot make", path, error))
}

/// Makes a file that must not be there yet.
pub(crate) fn new_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| io_at("cannot make", path, error))
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    io::Write::write_all(&mut new_file(path)?, bytes)
        .map_err(|error| io_at("cannot write", path, error))
}
