//! Who holds an image: `flock` on its lock file, shared by every process that is attached.
//!
//! Creating, sweeping and removing happen under one lock for each user and folder. Liveness is
//! decided by locks alone: a dead process holds none. Whoever has got a lock compares the file it
//! locked with the file at the path: if they differ, the image was removed meanwhile.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{Error, Result, error::io_at};

/// Name of the lock file, in an image's folder and in the folder above.
pub(crate) const NAME: &str = "lock";

/// Longest time between two tries for a lock that somebody else has.
const NAP: Duration = Duration::from_millis(5);

/// Tries for a share of a lock: whoever removes an image takes the path away before that.
const TRIES: u32 = 200;

/// Longest wait for the user's lock: its holder makes or removes an image.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A locked file; closing it, or the death of the process, frees it.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// The exclusive lock on `folder/lock`, which is made if need be.
    ///
    /// # Errors
    /// [`Error::Image`] when the wait takes longer than `patience`; [`Error::Io`].
    pub(crate) fn exclusive(folder: &Path, patience: Duration) -> Result<Self> {
        let path = folder.join(NAME);
        let start = Instant::now();
        loop {
            let file = open(&path, true)?;
            match file.try_lock() {
                Ok(()) => {
                    if same(&file, &path)? {
                        return Ok(Self { file, path });
                    }
                }
                Err(TryLockError::WouldBlock) if start.elapsed() < patience => thread::sleep(NAP),
                Err(TryLockError::WouldBlock) => {
                    let why = format!("locked by another process for {patience:.0?}");
                    return Err(Error::Image { path, why });
                }
                Err(TryLockError::Error(error)) => return Err(io_at("cannot lock", &path, error)),
            }
        }
    }

    /// The exclusive lock of an image that nobody holds; `None` if somebody does.
    pub(crate) fn try_exclusive(image: &Path) -> Result<Option<Self>> {
        let path = image.join(NAME);
        let file = open(&path, false)?;
        match file.try_lock() {
            Ok(()) if same(&file, &path)? => Ok(Some(Self { file, path })),
            Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(io_at("cannot lock", &path, error)),
        }
    }

    /// A share of an image's lock.
    ///
    /// # Errors
    /// [`Error::Image`] if the image is gone or going.
    pub(crate) fn shared(image: &Path) -> Result<Self> {
        let path = image.join(NAME);
        for _ in 0..TRIES {
            let file = open(&path, false)?;
            if share(&file, &path)? && same(&file, &path)? {
                return Ok(Self { file, path });
            }
            thread::sleep(NAP);
        }
        Err(going(image))
    }

    /// A new image's lock file, with a share of its lock. Under the user's lock.
    pub(crate) fn create(image: &Path) -> Result<Self> {
        let path = image.join(NAME);
        let file = open(&path, true)?;
        Self { file, path }.share()
    }

    /// Turns an exclusive lock into a share. Under the user's lock, so that nobody removes the
    /// image in between.
    pub(crate) fn share(self) -> Result<Self> {
        if share(&self.file, &self.path)? {
            return Ok(self);
        }
        Err(going(&self.path))
    }
}

/// Gets a share. Somebody who has the lock exclusively is about to remove the image, or has only
/// looked whether anybody holds it: tried again for a while.
fn share(file: &File, path: &Path) -> Result<bool> {
    for _ in 0..TRIES {
        match file.try_lock_shared() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => thread::sleep(NAP),
            Err(TryLockError::Error(error)) => return Err(io_at("cannot lock", path, error)),
        }
    }
    Ok(false)
}

fn going(path: &Path) -> Error {
    let path = path.to_owned();
    let why = "it is being removed".to_owned();
    Error::Image { path, why }
}

fn open(path: &Path, create: bool) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(|error| io_at("cannot open", path, error))
}

/// Is the open file still the one at its path?
fn same(file: &File, path: &Path) -> Result<bool> {
    let ours = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_at("cannot look at", path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_keep_the_exclusive_lock_away() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::create(folder.path()).unwrap();
        let second = Lock::shared(folder.path()).unwrap();
        assert!(Lock::try_exclusive(folder.path()).unwrap().is_none());
        drop(first);
        assert!(Lock::try_exclusive(folder.path()).unwrap().is_none());
        drop(second);
        let exclusive = Lock::try_exclusive(folder.path()).unwrap().unwrap();
        let share = exclusive.share().unwrap();
        assert!(Lock::shared(folder.path()).is_ok());
        drop(share);
    }

    #[test]
    fn a_lock_on_a_removed_file_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let old = Lock::exclusive(folder.path(), Duration::ZERO).unwrap();
        let error = Lock::exclusive(folder.path(), Duration::from_millis(10)).unwrap_err();
        assert!(error.to_string().contains("locked by another"), "{error}");
        std::fs::remove_file(folder.path().join(NAME)).unwrap();
        let _new = Lock::exclusive(folder.path(), Duration::ZERO).unwrap();
        assert!(!same(&old.file, &old.path).unwrap());
    }
}
