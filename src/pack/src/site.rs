//! Where the environment's modules are looked up: its `sys.path`, as `site` makes it.
//!
//! The interpreter says what its `sys.path` is; `.pth` files are read again here, to know which
//! entries are editable installs and which lines are to be run at start.

use std::{
    collections::{BTreeSet, HashSet},
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use fs_err as fs;
use pybundle_bundle::{manifest::PthLine, name};

use crate::{
    Result,
    classify::place,
    compile::Interpreter,
    exclude::Exclude,
    roots::{Roots, join},
};

/// Names of the standard library's packages of tests.
const TESTS: [&[u8]; 3] = [b"test", b"tests", b"idle_test"];

/// What `site` does in the environment.
#[derive(Debug, Default)]
pub(crate) struct Site {
    /// Folders of `sys.path` that are packed, as paths in the bundle, in order.
    pub(crate) sys_path: Vec<Vec<u8>>,
    /// Zip files of `sys.path` that are packed: the interpreter's own importer reads them.
    pub(crate) zips: Vec<ZipEntry>,
    /// Those of the folders in which distributions are installed.
    pub(crate) install: Vec<Vec<u8>>,
    /// Those of them that hold the standard library.
    pub(crate) stdlib: Vec<Vec<u8>>,
    /// What stays out of a standard library that lies outside the environment, as paths in the
    /// bundle: its own site folders, its tests, what is needed to build it.
    pub(crate) left_out: Vec<Vec<u8>>,
    /// Lines to be run at start, in order.
    pub(crate) lines: Vec<PthLine>,
    /// Folders outside that path lines name, in order.
    pub(crate) editable: Vec<Outside>,
}

/// A zip file on `sys.path`.
#[derive(Debug)]
pub(crate) struct ZipEntry {
    /// Its path in the bundle.
    path: Vec<u8>,
    /// How many folders come before it.
    behind: usize,
}

/// A folder on `sys.path` that isn't packed.
#[derive(Debug)]
pub(crate) struct Outside {
    /// Where it lies, symlinks resolved.
    pub(crate) path: PathBuf,
    /// How many packed folders and zip files come before it.
    pub(crate) behind: usize,
}

impl Site {
    /// All of `sys.path` that is packed, in order.
    pub(crate) fn entries(&self) -> Vec<&[u8]> {
        let mut entries: Vec<&[u8]> = self.sys_path.iter().map(Vec::as_slice).collect();
        for zip in self.zips.iter().rev() {
            entries.insert(zip.behind, &zip.path);
        }
        entries
    }

    /// Sorts the interpreter's `sys.path`. Site folders outside the environment (of a base prefix
    /// that a virtual environment lets through) become roots, and with `with_stdlib` the standard
    /// library does.
    ///
    /// # Errors
    /// [`crate::Error::Io`] for a folder or a `.pth` file that can't be read.
    pub(crate) fn read(
        python: &Interpreter,
        roots: &mut Roots,
        exclude: &Exclude,
        with_stdlib: bool,
    ) -> Result<Self> {
        let mut site = Self::default();
        let stdlib = [&python.stdlib, &python.platstdlib].map(|path| fs::canonicalize(path).ok());
        let prefix = fs::canonicalize(&python.base_prefix);
        let prefix = prefix.unwrap_or_else(|_| python.base_prefix.clone());
        // `lib64` may be a link to `lib`: its lines are to be run once.
        let mut site_folders: Vec<PathBuf> = Vec::new();
        for folder in folders(&python.site_packages) {
            if !site_folders.contains(&folder) {
                site_folders.push(folder);
            }
        }
        let mut outside = Vec::new();
        let entries = python.sys_path.iter();
        for folder in entries.filter_map(|path| fs::canonicalize(path).ok()) {
            if !folder.is_dir() {
                let path = roots.bundle_path(&folder);
                site.zips.extend(path.map(|path| ZipEntry {
                    path,
                    behind: site.sys_path.len(),
                }));
                continue;
            }
            let is_site = site_folders.contains(&folder);
            let is_stdlib = !is_site
                && stdlib
                    .iter()
                    .flatten()
                    .any(|stdlib| folder == *stdlib || folder == stdlib.join("lib-dynload"));
            let path = match roots.bundle_path(&folder) {
                Some(path) => path,
                // Debian's lie elsewhere below the prefix: the packed `site` looks for them there.
                None if is_site && with_stdlib && folder.starts_with(&prefix) => {
                    roots.add_base(&prefix, &folder)
                }
                None if is_site => roots.add(&folder, &folder),
                None if is_stdlib && with_stdlib => {
                    let path = roots.add_base(&prefix, &folder);
                    site.leave_out(&folder, &path, &site_folders)?;
                    path
                }
                None => {
                    outside.push(Outside {
                        path: folder,
                        behind: site.sys_path.len() + site.zips.len(),
                    });
                    continue;
                }
            };
            for (is, list) in [
                (true, &mut site.sys_path),
                (is_site, &mut site.install),
                (is_stdlib, &mut site.stdlib),
            ] {
                if is && !list.contains(&path) {
                    list.push(path.clone());
                }
            }
        }
        let mut named = HashSet::new();
        for folder in &site_folders {
            if let Some(path) = roots.bundle_path(folder) {
                let paths = site.read_folder(folder, &path, python, exclude)?;
                named.extend(paths.iter().filter_map(|path| fs::canonicalize(path).ok()));
            }
        }
        outside.retain(|folder| named.contains(&folder.path));
        site.editable = outside;
        Ok(site)
    }

    /// Leaves out what no environment needs of the standard library's `folder`, packed at `path`: the
    /// site folders in it too, unless they are the environment's own or it sees them.
    fn leave_out(&mut self, folder: &Path, path: &[u8], seen: &[PathBuf]) -> Result<()> {
        for item in fs::read_dir(folder)? {
            let name = item?.file_name();
            let inside = join(path, name.as_bytes());
            if seen.contains(&folder.join(&name)) {
                continue;
            }
            if matches!(
                name.as_bytes(),
                b"site-packages" | b"dist-packages" | b"test"
            ) || name.as_bytes().starts_with(b"config-")
            {
                self.left_out.push(inside);
                continue;
            }
            // `unittest/test`, `lib2to3/tests`, `idlelib/idle_test`
            let tests = TESTS.iter().filter(|tests| {
                let tests = Path::new(&name).join(OsStr::from_bytes(tests));
                folder.join(tests).is_dir()
            });
            self.left_out
                .extend(tests.map(|tests| join(&inside, tests)));
        }
        Ok(())
    }

    /// Is this a file of the standard library? Site folders mostly lie below its folder.
    pub(crate) fn is_stdlib(&self, path: &[u8]) -> bool {
        place(path, &self.sys_path).is_some_and(|place| {
            let mut folders = self.stdlib.iter();
            folders.any(|folder| folder == place.folder)
        })
    }

    /// Modules among what is left out.
    pub(crate) fn modules_left_out(&self) -> impl Iterator<Item = &[u8]> {
        let paths = self.left_out.iter().map(Vec::as_slice);
        paths.filter(|path| TESTS.contains(&name::split(path).1))
    }

    /// Reads the `.pth` files of one folder; gives the paths that they name.
    fn read_folder(
        &mut self,
        folder: &Path,
        path: &[u8],
        python: &Interpreter,
        exclude: &Exclude,
    ) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        let mut names = BTreeSet::new();
        for item in fs::read_dir(folder)? {
            names.insert(item?.file_name());
        }
        for last in names {
            let file = join(path, last.as_bytes());
            let hidden = last.as_bytes().starts_with(b".") && skips_hidden(python.version);
            if !last.as_bytes().ends_with(b".pth") || hidden || exclude.matches(&file) {
                continue;
            }
            let bytes = match fs::read(folder.join(&last)) {
                // site ignores what isn't a readable file.
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => continue,
                bytes => bytes?,
            };
            let text = String::from_utf8_lossy(&bytes);
            for line in lines(&text) {
                match line {
                    Line::Run(line) => self.lines.push(PthLine {
                        file: name::escape(&file),
                        line: line.to_owned(),
                    }),
                    Line::Path(line) => paths.push(folder.join(line)),
                }
            }
        }
        Ok(paths)
    }
}

/// Existing folders, symlinks resolved.
fn folders(paths: &[PathBuf]) -> impl Iterator<Item = PathBuf> + '_ {
    paths
        .iter()
        .filter_map(|path| fs::canonicalize(path).ok())
        .filter(|path| path.is_dir())
}

/// A line of a `.pth` file that does something.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Run(&'a str),
    Path(&'a str),
}

/// The lines as `site.addpackage` takes them.
fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().filter_map(|line| {
        if line.starts_with('#') || line.trim().is_empty() {
            None
        } else if line.starts_with("import ") || line.starts_with("import\t") {
            Some(Line::Run(line.trim_end()))
        } else {
            Some(Line::Path(line.trim_end()))
        }
    })
}

/// Versions that don't read `.pth` files whose names start with a dot (CPython issue 113659).
fn skips_hidden([major, minor, micro]: [u8; 3]) -> bool {
    match (major, minor) {
        (3, ..=8) => false,
        (3, 9) => micro >= 19,
        (3, 10) => micro >= 14,
        (3, 11) => micro >= 8,
        (3, 12) => micro >= 2,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn site_packages_are_no_standard_library() {
        let site = Site {
            sys_path: [&b"lib/python3.11"[..], b"lib/python3.11/site-packages"]
                .map(<[u8]>::to_vec)
                .to_vec(),
            stdlib: vec![b"lib/python3.11".to_vec()],
            ..Site::default()
        };
        assert!(site.is_stdlib(b"lib/python3.11/json/__init__.py"));
        assert!(!site.is_stdlib(b"lib/python3.11/site-packages/numpy/__init__.py"));
        assert!(!site.is_stdlib(b"lib/libz.so.1"));
    }

    #[test]
    fn lines_as_site_takes_them() {
        let text = "\u{feff}# no\n\n  \nimport a; b \nimport\tc\nimportant\n../x  \r\n";
        let got: Vec<_> = lines(text).collect();
        assert_eq!(
            got,
            [
                Line::Run("import a; b"),
                Line::Run("import\tc"),
                Line::Path("important"),
                Line::Path("../x"),
            ]
        );
    }
}
