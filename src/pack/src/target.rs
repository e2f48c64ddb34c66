//! The bundle's file: nameless or under a temporary name until it is complete.

use std::{
    ffi::OsString,
    io::{self, ErrorKind},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use fs_err::{self as fs, os::unix::fs::OpenOptionsExt as _};
use nix::{
    fcntl::{AT_FDCWD, AtFlags, OFlag},
    unistd::linkat,
};
use pybundle_bundle::Head;

use crate::{Error, Result};

/// A place for a bundle.
pub(crate) struct Target {
    /// Where it goes: absolute, symlinks resolved.
    path: PathBuf,
}

impl Target {
    /// Checks that a bundle can be written to `path`: its folder exists, and what is there, if
    /// anything, is a bundle (whole or not) or an empty file.
    ///
    /// # Errors
    /// [`Error::Occupied`], [`Error::Io`].
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let occupied = || Error::Occupied {
            path: path.to_owned(),
        };
        match fs::File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let name = path.file_name().ok_or_else(occupied)?;
                let folder = path
                    .parent()
                    .filter(|folder| !folder.as_os_str().is_empty());
                let folder = fs::canonicalize(folder.unwrap_or(Path::new(".")))?;
                return Ok(Self {
                    path: folder.join(name),
                });
            }
            Err(error) => return Err(error.into()),
            Ok(mut file) => {
                let metadata = file.metadata()?;
                if !metadata.is_file() {
                    return Err(occupied());
                }
                if metadata.len() > 0
                    && let Err(pybundle_bundle::Error::NotABundle { .. }) = Head::read(&mut file)
                {
                    return Err(occupied());
                }
            }
        }
        Ok(Self {
            path: fs::canonicalize(path)?,
        })
    }

    /// Where the bundle goes.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the file that becomes the bundle.
    ///
    /// It has no name until it is complete, so that not even a kill leaves it behind; where the
    /// file system knows no such files, it has a temporary one.
    ///
    /// # Errors
    /// Those of `open`.
    pub(crate) fn create(&self) -> io::Result<(fs::File, Partial)> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let mut name = OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(format!(".{}.partial", std::process::id()));
        let path = folder.join(name);
        let unnamed = fs::OpenOptions::new()
            .write(true)
            .custom_flags(OFlag::O_TMPFILE.bits())
            .open(folder);
        // Such a file gets its name through there.
        let can_be_named = Path::new("/proc/self/fd").is_dir();
        if let Some(file) = unnamed.ok().filter(|_| can_be_named) {
            let named = false;
            return Ok((file, Partial { path, named }));
        }
        // Its error names the file that is missing or forbidden.
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        let named = true;
        Ok((file, Partial { path, named }))
    }
}

/// A bundle that isn't complete; removed unless it is put in its place.
pub(crate) struct Partial {
    /// Its temporary name.
    path: PathBuf,
    /// It has that name.
    named: bool,
}

impl Partial {
    /// Puts the file, now complete, in its place, at once: there is the old one or the new one.
    ///
    /// # Errors
    /// Those of `linkat` and `rename`.
    pub(crate) fn put(mut self, file: &fs::File, place: &Path) -> io::Result<()> {
        if !self.named {
            // A link can't replace what is there, a rename can.
            let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
            linkat(
                AT_FDCWD,
                descriptor.as_str(),
                AT_FDCWD,
                &self.path,
                AtFlags::AT_SYMLINK_FOLLOW,
            )?;
            self.named = true;
        }
        fs::rename(&self.path, place)?;
        self.named = false;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.named {
            // The error that is being reported is the one that matters.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let items = fs::read_dir(folder).unwrap();
        items
            .map(|item| item.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn only_bundles_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        assert!(Target::new(&path).is_ok());
        fs::write(&path, b"").unwrap();
        assert!(Target::new(&path).is_ok());
        fs::write(&path, b"something else").unwrap();
        assert!(matches!(Target::new(&path), Err(Error::Occupied { .. })));
        assert!(matches!(
            Target::new(folder.path()),
            Err(Error::Occupied { .. })
        ));
        assert!(matches!(
            Target::new(&folder.path().join("no/x")),
            Err(Error::Io(_))
        ));
    }

    #[test]
    fn a_complete_file_replaces_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, b"").unwrap();
        let target = Target::new(&path).unwrap();
        let (mut file, partial) = target.create().unwrap();
        file.write_all(b"new").unwrap();
        partial.put(&file, target.path()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["x"]);
    }

    #[test]
    fn what_is_given_up_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::new(&folder.path().join("x")).unwrap();
        let (_, partial) = target.create().unwrap();
        drop(partial);
        // As where the file system knows no nameless files.
        let path = folder.path().join(".x.partial");
        fs::write(&path, b"").unwrap();
        drop(Partial { path, named: true });
        assert_eq!(names(folder.path()), Vec::<String>::new());
    }
}
