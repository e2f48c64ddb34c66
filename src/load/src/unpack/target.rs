//! The folder of an unpacked environment: under a private name until it is whole.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use crate::{Error, Result, error::io_at, nodes::nonce};

/// In the private folder: what takes the place. It has the permissions of a new folder already.
const INSIDE: &str = "environment";

/// A place for an environment.
pub(super) struct Target {
    /// Absolute, symlinks resolved; UTF-8, as file names in bytecode are.
    path: PathBuf,
    /// Permissions of the empty folder that is there.
    mode: Option<u32>,
}

impl Target {
    /// Checks that there is nothing yet.
    ///
    /// # Errors
    /// [`Error::Folder`], [`Error::Io`].
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let refuse = |why: &str| Error::Folder {
            path: folder.to_owned(),
            why: why.to_owned(),
        };
        let there = |got: &str| refuse(&format!("expected an empty folder or none, got {got}"));
        let failed = |error| io_at("cannot unpack there", folder, error);
        let target = match fs::metadata(folder) {
            Ok(found) if !found.is_dir() => return Err(there("a file")),
            Ok(found) => {
                if let Some(first) = fs::read_dir(folder).map_err(failed)?.next() {
                    let name = first.map_err(failed)?.file_name();
                    return Err(there(&format!("one that holds `{}`", name.display())));
                }
                let here = fs::metadata(".").map_err(failed)?;
                if (here.dev(), here.ino()) == (found.dev(), found.ino()) {
                    // It is replaced: whoever is in it would be nowhere.
                    return Err(refuse("it is the working folder; name it from another one"));
                }
                let path = folder.canonicalize().map_err(failed)?;
                let above = fs::metadata(path.parent().unwrap_or(&path)).map_err(failed)?;
                if above.dev() != found.dev() {
                    // Nothing takes its place: better said before the work than after it.
                    return Err(refuse("it is a mount point; name a folder in it"));
                }
                Self {
                    path,
                    mode: Some(found.mode() & 0o7777),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if fs::symlink_metadata(folder).is_ok() {
                    return Err(there("a link to nothing"));
                }
                let name = folder.file_name().ok_or_else(|| failed(error))?;
                let above = folder.parent().filter(|path| !path.as_os_str().is_empty());
                let above = above.unwrap_or(Path::new("."));
                let above = above.canonicalize();
                let above = above.map_err(|error| io_at("cannot unpack below", folder, error))?;
                Self {
                    path: above.join(name),
                    mode: None,
                }
            }
            Err(error) => return Err(failed(error)),
        };
        match target.path.to_str() {
            Some(_) => Ok(target),
            None => Err(refuse(
                "expected a path in UTF-8, as Python's bytecode has it",
            )),
        }
    }

    /// The place.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What comes before every path in the environment.
    pub(super) fn prefix(&self) -> Vec<u8> {
        [self.path.as_os_str().as_bytes(), b"/"].concat()
    }

    /// Makes the private folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn create(&self) -> Result<Private> {
        let above = self.path.parent().unwrap_or(Path::new("/"));
        let path = above.join(format!(".pybundle-unpack-{:x}", nonce()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| io_at("cannot make", &path, error))?;
        let private = Private {
            folder: path.join(INSIDE),
            path,
        };
        let made = DirBuilder::new().mode(0o777).create(&private.folder);
        made.map_err(|error| io_at("cannot make", &private.folder, error))?;
        Ok(private)
    }
}

/// An environment that isn't whole; removed unless it is put in its place.
pub(super) struct Private {
    path: PathBuf,
    folder: PathBuf,
}

impl Private {
    /// What takes the place.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts the environment, now whole, in its place, at once.
    ///
    /// # Errors
    /// [`Error::Io`] if something has come there meanwhile.
    pub(super) fn put(&self, target: &Target) -> Result<()> {
        let renamed = fs::rename(&self.folder, &target.path);
        renamed.map_err(|error| io_at("cannot make", &target.path, error))?;
        // Not before: who may not write in a folder may not move it.
        if let Some(mode) = target.mode {
            let set = fs::set_permissions(&target.path, Permissions::from_mode(mode));
            set.map_err(|error| io_at("cannot set the mode of", &target.path, error))?;
        }
        Ok(())
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // The error that is being reported is the one that matters.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let items = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = items
            .map(|item| item.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn only_nothing_and_empty_folders_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("full/x")).unwrap();
        fs::write(at("file"), "").unwrap();
        symlink("nothing", at("dangling")).unwrap();
        for (name, why) in [
            (
                "full",
                "expected an empty folder or none, got one that holds `x`",
            ),
            ("file", "got a file"),
            ("dangling", "got a link to nothing"),
            ("absent/deeper", "cannot unpack below"),
            ("absent/..", "cannot unpack there"),
        ] {
            let error = Target::new(&at(name)).err().unwrap().to_string();
            assert!(error.contains(why) && error.contains(name), "{error}");
        }
        let error = Target::new(Path::new("/")).err().unwrap().to_string();
        assert!(error.contains("one that holds"), "{error}");
    }

    #[test]
    fn it_is_seen_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        fs::create_dir(top.join("empty")).unwrap();
        fs::set_permissions(top.join("empty"), Permissions::from_mode(0o750)).unwrap();
        symlink("empty", top.join("link")).unwrap();
        for (name, place) in [("new", "new"), ("link", "empty")] {
            let target = Target::new(&top.join(name)).unwrap();
            assert_eq!(target.path(), top.join(place));
            let private = target.create().unwrap();
            fs::write(private.folder().join("file"), "x").unwrap();
            assert!(!top.join(place).join("file").exists());
            private.put(&target).unwrap();
            drop(private);
            assert_eq!(names(&top.join(place)), ["file"]);
        }
        assert_eq!(names(&top), ["empty", "link", "new"]);
        let mode = fs::metadata(top.join("empty")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o750);
    }

    #[test]
    fn nothing_stays_of_what_fails() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::new(&folder.path().join("new")).unwrap();
        let private = target.create().unwrap();
        fs::create_dir(target.path()).unwrap();
        fs::write(target.path().join("came"), "meanwhile").unwrap();
        assert!(private.put(&target).is_err());
        drop(private);
        assert_eq!(names(folder.path()), ["new"]);
        assert_eq!(names(target.path()), ["came"]);
    }
}
