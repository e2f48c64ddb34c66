//! Has the environment changed since it was packed? Root asks, beside a load that reads the bundle.
//!
//! It looks at each folder in which distributions are installed, of the environment that was packed,
//! where that exists, and reads it only if it is newer than the bundle: what was copied since tells by
//! its names whether it is the same. Nobody waits for the answer: one that comes later than the load, from
//! a file system that is slow or never answers, is not heard. Where an image knew the bundle,
//! nothing is asked: such a start reads nothing at all, and who made the image was told.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver},
    thread,
    time::SystemTime,
};

use fs_err::File;

use pybundle_bundle::{Manifest, installed, manifest::Installed, name};

/// A question under way.
pub(crate) struct Question(Receiver<PathBuf>);

impl Question {
    /// Asks, on a thread of its own; `None` if there is nothing to ask.
    pub(crate) fn ask(manifest: &Manifest, bundle: &File) -> Option<Self> {
        let packed = bundle.metadata().and_then(|data| data.modified()).ok()?;
        let environments: Vec<PathBuf> = manifest
            .roots
            .first()?
            .paths
            .iter()
            .map(PathBuf::from)
            .collect();
        let folders = manifest.installed.clone();
        if folders.is_empty() {
            return None;
        }
        let (answer_in, answer) = mpsc::channel();
        let thread = thread::Builder::new().name("pybundle-stale".to_owned());
        let ask = move || {
            if let Some(environment) = changed(&environments, &folders, packed) {
                // Nobody listens if the load is over.
                let _ = answer_in.send(environment);
            }
        };
        thread.spawn(ask).ok()?;
        Some(Self(answer))
    }

    /// The environment, if it is known by now to have changed.
    pub(crate) fn answer(self) -> Option<PathBuf> {
        self.0.try_recv().ok()
    }
}

/// The line that says so.
pub(crate) fn line(environment: &Path) -> String {
    format!(
        "pybundle: the environment has changed since it was packed: `{}`: pack it again \
         (pybundle diff BUNDLE ENV says what changed)\n",
        environment.display()
    )
}

/// The first of the environment's paths that exists, if other things are installed there now.
fn changed(environments: &[PathBuf], folders: &[Installed], packed: SystemTime) -> Option<PathBuf> {
    for environment in environments {
        match has_changed(environment, folders, packed) {
            Some(true) => return Some(environment.clone()),
            Some(false) => return None,
            None => {}
        }
    }
    None
}

/// `None` if there is no environment.
fn has_changed(environment: &Path, folders: &[Installed], packed: SystemTime) -> Option<bool> {
    for Installed { folder, names } in folders {
        if name::check(folder.as_bytes()).is_err() {
            continue;
        }
        let folder = environment.join(folder);
        let time = fs::metadata(&folder).and_then(|data| data.modified());
        if time.as_ref().is_ok_and(|time| *time < packed) {
            continue;
        }
        match time.and_then(|_| installed::names(&folder)) {
            Ok(Some(now)) if now != *names => return Some(true),
            // Of a Python of another version, there is a folder of another name.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return environment.join("bin").is_dir().then_some(true);
            }
            // What can't be read tells nothing.
            _ => {}
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_first_path_that_exists_tells() {
        let top = tempfile::tempdir().unwrap();
        let [gone, same, other] = ["gone", "same", "other"].map(|name| top.path().join(name));
        for environment in [&same, &other] {
            fs::create_dir_all(environment.join("lib/a-1.dist-info")).unwrap();
        }
        let folder = |folder: &str| Installed {
            folder: folder.to_owned(),
            names: installed::names(&same.join("lib")).unwrap().unwrap(),
        };
        let folders = [folder("lib")];
        fs::create_dir(other.join("lib/b-1.dist-info")).unwrap();
        let ask = |paths: &[&PathBuf], folders: &[Installed]| {
            changed(
                &paths.iter().map(|&path| path.clone()).collect::<Vec<_>>(),
                folders,
                SystemTime::UNIX_EPOCH,
            )
        };
        assert_eq!(ask(&[&gone], &folders), None);
        assert_eq!(ask(&[&gone, &same, &other], &folders), None);
        assert_eq!(ask(&[&gone, &other, &same], &folders), Some(other.clone()));
        // The folder is gone; with it the environment, or not.
        let absent = [folder("lib/python3.8")];
        assert_eq!(ask(&[&same], &absent), None);
        fs::create_dir(same.join("bin")).unwrap();
        assert_eq!(ask(&[&same], &absent), Some(same.clone()));
        // What is older than the bundle is as it was.
        let later = SystemTime::now() + Duration::from_secs(3600);
        assert_eq!(changed(std::slice::from_ref(&other), &folders, later), None);
        // A bundle can't have other folders read.
        for bad in ["../other/lib", "/", ""] {
            assert_eq!(ask(&[&same], &[folder(bad)]), None, "{bad}");
        }
        // What is no folder tells nothing.
        fs::write(same.join("file"), "").unwrap();
        assert_eq!(ask(&[&same], &[folder("file")]), None);
    }

    #[test]
    fn the_message_is_one_line() {
        let line = line(Path::new("/path/env"));
        assert!(line.ends_with('\n') && line.lines().count() == 1);
        assert!(line.starts_with(
            "pybundle: the environment has changed since it was packed: `/path/env`: pack it again"
        ));
    }
}
