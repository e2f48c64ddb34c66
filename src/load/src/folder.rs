//! The folder of a node that holds images: which one, and is it ours alone?
//!
//! Images of one user lie in `FOLDER/pybundle-UID`, which must be a folder of this user that nobody
//! else can enter; another user may have made it first where everybody may write.

use std::{
    ffi::OsStr,
    fs::DirBuilder,
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use nix::{
    sys::statvfs::{FsFlags, statvfs},
    unistd::geteuid,
};

use crate::{
    Error, Result, Settings,
    error::io_at,
    image::lock::{self, Lock},
    room,
};

/// A user's folder of images on a local file system, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Home(PathBuf);

/// Where images may lie, in order of preference.
pub(crate) fn candidates(node_dir: Option<&Path>) -> Vec<PathBuf> {
    let temporary = std::env::var_os("TMPDIR").filter(|value| !value.is_empty());
    let mut found = Vec::new();
    let all = [
        node_dir.map(Path::to_owned),
        Some("/dev/shm".into()),
        temporary.map(PathBuf::from),
        Some("/tmp".into()),
    ];
    for folder in all.into_iter().flatten() {
        if !found.contains(&folder) {
            found.push(folder);
        }
    }
    found
}

/// Where the images of a load may lie.
pub(crate) fn of(settings: &Settings) -> Vec<PathBuf> {
    match &settings.node_dir {
        Some(folder) if settings.only_node_dir => vec![folder.clone()],
        folder => candidates(folder.as_deref()),
    }
}

impl Home {
    /// The user's folder in `folder`, made if need be.
    ///
    /// # Errors
    /// [`Error::Image`] with the reason why it can't be used.
    pub(crate) fn make(folder: &Path) -> Result<Self> {
        let folder = check(folder)?;
        let path = folder.join(name());
        make_private(&path)?;
        Ok(Self(path))
    }

    /// The user's folder in `folder` if it is there and can be trusted.
    pub(crate) fn find(folder: &Path) -> Option<Self> {
        let path = check(folder).ok()?.join(name());
        check_private(&path).ok()?;
        Some(Self(path))
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The lock under which images are made and removed. Whoever removes the last image removes
    /// the folder too: then it is made again.
    pub(crate) fn lock(&self) -> Result<Lock> {
        loop {
            match Lock::exclusive(&self.0, lock::PATIENCE) {
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                    make_private(&self.0)?;
                }
                result => return result,
            }
        }
    }
}

fn name() -> String {
    format!("pybundle-{}", geteuid())
}

/// May programs and libraries be run from this folder? No where it can't be told.
pub(crate) fn is_executable(folder: &Path) -> bool {
    statvfs(folder).is_ok_and(|volume| !volume.flags().contains(FsFlags::ST_NOEXEC))
}

/// Is it a local, writable folder? Gives its path without symlinks.
fn check(folder: &Path) -> Result<PathBuf> {
    let refuse = |why: &str| {
        Err(Error::Image {
            path: folder.to_owned(),
            why: why.to_owned(),
        })
    };
    if !folder.is_absolute() {
        return refuse("not an absolute path");
    }
    let real = folder
        .canonicalize()
        .map_err(|error| io_at("cannot use", folder, error))?;
    if !real.is_dir() {
        return refuse("not a folder");
    }
    // Tracebacks and marshalled file names hold it as text.
    if real.to_str().is_none() {
        return refuse("its name is not UTF-8");
    }
    if let Some(name) = room::shared_file_system(&real)? {
        return refuse(&format!("not a local file system but {name}"));
    }
    let flags = statvfs(&real).map_err(io::Error::from)?.flags();
    if flags.contains(FsFlags::ST_RDONLY) {
        return refuse("mounted read-only");
    }
    Ok(real)
}

fn make_private(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(io_at("cannot make", path, error))
        }
        _ => check_private(path),
    }
}

/// Is it a folder, no symlink, of this user, closed to all others?
pub(crate) fn check_private(path: &Path) -> Result<()> {
    let refuse = |why: String| {
        Err(Error::Image {
            path: path.to_owned(),
            why,
        })
    };
    let found =
        std::fs::symlink_metadata(path).map_err(|error| io_at("cannot use", path, error))?;
    if !found.is_dir() {
        return refuse("not a folder".to_owned());
    }
    let user = geteuid().as_raw();
    if found.uid() != user {
        return refuse(format!("owner: expected user {user}, got {}", found.uid()));
    }
    if found.mode() & 0o077 != 0 {
        let mode = found.mode() & 0o777;
        return refuse(format!(
            "open to other users: expected mode 700, got {mode:o}"
        ));
    }
    Ok(())
}

/// This node's name, for messages.
pub(crate) fn node_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_else(|_| OsStr::new("this node").into());
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_folder_of_ours_alone_is_made_and_found() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Home::find(folder.path()), None);
        let home = Home::make(folder.path()).unwrap();
        assert_eq!(Home::find(folder.path()), Some(home.clone()));
        assert_eq!(Home::make(folder.path()).unwrap(), home);
    }

    #[test]
    fn a_folder_that_others_may_enter_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::make(folder.path()).unwrap();
        std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let error = Home::make(folder.path()).unwrap_err().to_string();
        assert!(error.contains("expected mode 700, got 755"), "{error}");
        assert_eq!(Home::find(folder.path()), None);
    }

    #[test]
    fn a_symlink_in_its_place_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        symlink(elsewhere.path(), folder.path().join(name())).unwrap();
        let error = Home::make(folder.path()).unwrap_err().to_string();
        assert!(error.contains("not a folder"), "{error}");
    }

    #[test]
    fn relative_missing_and_unsuitable_folders_are_refused() {
        for (folder, why) in [
            ("here", "not an absolute path"),
            ("/nowhere/at/all", "cannot use"),
            ("/proc/self/exe", "not a folder"),
        ] {
            let error = Home::make(Path::new(folder)).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
