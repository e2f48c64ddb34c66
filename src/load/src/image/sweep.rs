//! Removing images that nobody holds: the last one out, leftovers of killed jobs, `pybundle clean`.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use pybundle_bundle::Identity;

use super::{
    lock::{self, Lock},
    site::{KEPT, is_complete, is_kept},
};
use crate::{
    Error, Result,
    error::io_at,
    folder::{self, Home},
};

/// Folders that are being removed are called so; nobody attaches to them.
const GONE: &str = ".gone-";

/// Longest wait of a leaving process for somebody who makes or removes an image.
const LEAVING: Duration = Duration::from_secs(10);

/// Removes an image's folder. Under the user's lock.
pub(super) fn remove(dir: &Path) -> Result<()> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let gone = dir.with_file_name(format!("{GONE}{name}"));
    discard(&gone)?;
    // It vanishes at once, so that a removal cut short leaves nothing that looks whole.
    match fs::rename(dir, &gone) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_at("cannot remove", dir, error))
        }
        _ => discard(&gone),
    }
}

fn discard(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_at("cannot remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Called when this process's share is given back: removes the image if that was the last share.
/// What can't be removed now is swept by the next run.
pub(super) fn last_one_out(dir: &Path) {
    let Some(parent) = dir.parent() else { return };
    if is_kept(dir) || !parent.exists() {
        return;
    }
    // Most often others still hold it: found out without queueing for the user's lock.
    if !matches!(Lock::try_exclusive(dir), Ok(Some(_))) {
        return;
    }
    let Ok(user) = Lock::exclusive(parent, LEAVING) else {
        return;
    };
    if let Ok(Some(_last)) = Lock::try_exclusive(dir) {
        let _ = remove(dir);
    }
    tidy(parent, user);
}

/// Removes the user's folder if nothing but its lock is left in it.
pub(super) fn tidy(home: &Path, user: Lock) {
    let only_lock = fs::read_dir(home).is_ok_and(|mut entries| {
        entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == lock::NAME))
    });
    if only_lock {
        // Whoever waits for this lock finds that it is another file than the one at the path.
        let _ = fs::remove_file(home.join(lock::NAME));
        let _ = fs::remove_dir(home);
    }
    drop(user);
}

/// Sweeps what killed jobs have left, `except` for one image. Under the user's lock.
pub(super) fn leftovers(home: &Home, except: &Path) -> Result<()> {
    for path in folders(home)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(GONE) {
            discard(&path)?;
        } else if path != except && is_free(&path) {
            // A kept image stays while it can be attached to.
            if !(is_kept(&path) && is_complete(&path)) {
                remove(&path)?;
            }
        }
    }
    Ok(())
}

/// Does nobody hold the image? One without a lock file was never finished.
fn is_free(dir: &Path) -> bool {
    match Lock::try_exclusive(dir) {
        Ok(lock) => lock.is_some(),
        Err(_) => !dir.join(lock::NAME).exists(),
    }
}

fn folders(home: &Home) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries =
        fs::read_dir(home.path()).map_err(|error| io_at("cannot read", home.path(), error))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// An image that [`clean`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleaned {
    /// Its folder.
    pub dir: PathBuf,
    /// Its allocated bytes.
    pub bytes: u64,
    /// Somebody holds it: it stays.
    pub held: bool,
}

/// Finds this user's images in `node_dir` and the usual folders, and removes those that nobody
/// holds, kept ones too; with `dry_run` none.
///
/// # Errors
/// [`Error::Io`] for an image that can't be removed; the others are removed all the same.
pub fn clean(node_dir: Option<&Path>, dry_run: bool) -> Result<Vec<Cleaned>> {
    let mut found: Vec<Cleaned> = Vec::new();
    let mut failed: Option<Error> = None;
    for folder in folder::candidates(node_dir) {
        let Some(home) = Home::find(&folder) else {
            continue;
        };
        let user = home.lock()?;
        for dir in folders(&home)? {
            let gone = dir
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(GONE));
            let held = !gone && !is_free(&dir);
            if found.iter().any(|known| known.dir == dir) {
                continue;
            }
            let bytes = allocated(&dir);
            if !held && !dry_run {
                let removed = if gone { discard(&dir) } else { remove(&dir) };
                if let Err(error) = removed {
                    failed.get_or_insert(error);
                    continue;
                }
            }
            found.push(Cleaned { dir, bytes, held });
        }
        if dry_run {
            drop(user);
        } else {
            tidy(home.path(), user);
        }
    }
    failed.map_or(Ok(found), Err)
}

/// Ends the keeping of this user's images in `node_dir` and the usual folders, of all or of the one
/// with this identity, and removes those that nobody holds.
///
/// # Errors
/// [`Error::Io`] for an image that can't be removed.
pub fn unstage(node_dir: Option<&Path>, identity: Option<Identity>) -> Result<Vec<Cleaned>> {
    let mut found = Vec::new();
    for folder in folder::candidates(node_dir) {
        let Some(home) = Home::find(&folder) else {
            continue;
        };
        let user = home.lock()?;
        for dir in folders(&home)? {
            let wanted = identity.is_none_or(|identity| dir.ends_with(identity.short()));
            let kept = dir.join(KEPT);
            if !wanted || !kept.exists() {
                continue;
            }
            let bytes = allocated(&dir);
            fs::remove_file(&kept).map_err(|error| io_at("cannot remove", &kept, error))?;
            // Who holds it removes it at its end.
            let held = !is_free(&dir);
            if !held {
                remove(&dir)?;
            }
            found.push(Cleaned { dir, bytes, held });
        }
        tidy(home.path(), user);
    }
    Ok(found)
}

/// Allocated bytes below a folder; what can't be read counts nothing.
pub(crate) fn allocated(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let mut sum = 0;
    for entry in entries.flatten() {
        let Ok(found) = entry.metadata() else {
            continue;
        };
        sum += found.blocks() * 512;
        if found.is_dir() {
            sum += allocated(&entry.path());
        }
    }
    sum
}
