//! Where the dynamic linker looks, and what lies there.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ffi::OsString,
    path::{Path, PathBuf},
    rc::Rc,
};

/// Folders that are searched besides those that a file names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchPath {
    /// Those of `LD_LIBRARY_PATH`.
    pub variable: Vec<PathBuf>,
    /// The environment's own `lib` folders, which its interpreter adds (conda, Spack).
    pub environment: Vec<PathBuf>,
    /// The system's.
    pub system: Vec<PathBuf>,
}

impl SearchPath {
    /// This process's `LD_LIBRARY_PATH`, an environment's folders and this system's.
    pub fn of_this_machine(environment: Vec<PathBuf>) -> Self {
        let variable = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        Self {
            variable: std::env::split_paths(&variable)
                .filter(|path| path.is_absolute())
                .collect(),
            environment,
            system: system_folders(),
        }
    }
}

/// Folders of `ld.so.conf` and those that are built into `ld.so`.
fn system_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let mut seen = BTreeSet::new();
    read_configuration(Path::new("/etc/ld.so.conf"), &mut folders, &mut seen);
    for folder in ["/lib64", "/usr/lib64", "/lib", "/usr/lib"] {
        folders.push(folder.into());
    }
    folders.retain(|folder| folder.is_dir());
    folders
}

/// Reads one file of `ld.so.conf`'s format. What can't be read has no folders for `ldconfig` either.
fn read_configuration(path: &Path, folders: &mut Vec<PathBuf>, seen: &mut BTreeSet<PathBuf>) {
    if !seen.insert(path.to_owned()) {
        return;
    }
    let text = fs_err::read_to_string(path).unwrap_or_default();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(pattern) = line.strip_prefix("include") {
            for file in included(path, pattern.trim()) {
                read_configuration(&file, folders, seen);
            }
        } else if line.starts_with('/') {
            folders.push(line.into());
        }
    }
}

/// Files of an `include`: a path whose last part may have wildcards.
fn included(from: &Path, pattern: &str) -> Vec<PathBuf> {
    let pattern = from.parent().unwrap_or(Path::new("/")).join(pattern);
    let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name()) else {
        return Vec::new();
    };
    let Ok(glob) = globset::Glob::new(&name.to_string_lossy()) else {
        return Vec::new();
    };
    let glob = glob.compile_matcher();
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter(|entry| glob.is_match(entry.file_name()))
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

/// One folder, read once.
#[derive(Debug)]
pub(super) struct Folder {
    /// Its path without links.
    pub(super) path: PathBuf,
    names: HashSet<OsString>,
}

impl Folder {
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(std::ffi::OsStr::new(name))
    }
}

/// Folders that were searched before.
#[derive(Debug, Default)]
pub(super) struct Folders(HashMap<PathBuf, Option<Rc<Folder>>>);

impl Folders {
    /// The folder at a path, if there is one.
    pub(super) fn get(&mut self, path: &Path) -> Option<Rc<Folder>> {
        if let Some(known) = self.0.get(path) {
            return known.clone();
        }
        let folder = read_folder(path).map(Rc::new);
        self.0.insert(path.to_owned(), folder.clone());
        folder
    }
}

fn read_folder(path: &Path) -> Option<Folder> {
    let path = path.canonicalize().ok()?;
    let names = path
        .read_dir()
        .ok()?
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    Some(Folder { path, names })
}

/// An element of RPATH or RUNPATH with `$ORIGIN` replaced; `None` if it depends on the
/// working directory or on what only `ld.so` knows (`$LIB`, `$PLATFORM`).
pub(super) fn expand(element: &str, origin: &Path) -> Option<PathBuf> {
    let origin = origin.to_str()?;
    let path = element
        .replace("${ORIGIN}", origin)
        .replace("$ORIGIN", origin);
    (path.starts_with('/') && !path.contains('$')).then(|| path.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn origin_is_the_files_folder() {
        let expand = |element| expand(element, Path::new("/env/lib"));
        assert_eq!(
            expand("$ORIGIN/../x.libs"),
            Some("/env/lib/../x.libs".into())
        );
        assert_eq!(expand("${ORIGIN}"), Some("/env/lib".into()));
        assert_eq!(expand("/opt/lib"), Some("/opt/lib".into()));
        assert_eq!(expand("lib"), None);
        assert_eq!(expand("/usr/$LIB"), None);
    }

    #[test]
    fn configuration_files_include_others() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("ld.so.conf");
        std::fs::create_dir(folder.path().join("d")).unwrap();
        std::fs::write(&main, "# first\ninclude d/*.conf\n/b # last\nhwcap 1 x\n").unwrap();
        std::fs::write(
            folder.path().join("d/a.conf"),
            "/a\ninclude ../ld.so.conf\n",
        )
        .unwrap();
        std::fs::write(folder.path().join("d/ignored"), "/c\n").unwrap();
        let mut folders = Vec::new();
        read_configuration(&main, &mut folders, &mut BTreeSet::new());
        // By its other spelling the first file is read again, but not for ever.
        folders.dedup();
        assert_eq!(folders.first().unwrap(), Path::new("/a"));
        assert!(folders.contains(&"/b".into()) && !folders.contains(&"/c".into()));
    }
}
