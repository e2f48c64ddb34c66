//! The environment's files, links and empty folders, with their places in the bundle.
//!
//! A folder is walked without following symlinks, except where a program needs what they name and a
//! link would not do: see [`link`]. `__pycache__` stays out (its bytecode travels in code blocks),
//! but for files in it that Python didn't write.

mod link;
mod tree;

use std::{
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use fs_err as fs;
use pybundle_bundle::{limits, name};

pub(crate) use link::is_host;
pub(crate) use tree::{Found, Node, Stamp, Tree, What};

use crate::{
    Error, Phase, Progress, Reason, Result, Skipped,
    exclude::Exclude,
    interpreter::Own,
    roots::{Roots, is_below, join, relative},
};

/// Folder of Python's own bytecode files.
pub(crate) const PYCACHE: &[u8] = b"__pycache__";

/// What a walk may take.
pub(crate) struct Rules<'a> {
    /// Kept out, by path in the bundle.
    pub(crate) exclude: &'a Exclude,
    /// Kept out without a word, by path in the bundle.
    pub(crate) left_out: &'a [Vec<u8>],
    /// Folders of `sys.path`, as paths in the bundle: links at and below them are followed.
    pub(crate) importable: &'a [Vec<u8>],
    /// All roots, to tell where links lead.
    pub(crate) roots: &'a Roots,
    /// The interpreter that links may name.
    pub(crate) own: &'a Own,
    /// Never packed: the bundle that is being written.
    pub(crate) output: &'a Path,
}

impl Rules<'_> {
    fn is_importable(&self, path: &[u8]) -> bool {
        self.importable.iter().any(|folder| is_below(path, folder))
    }
}

/// Walks folders and gathers what they hold.
pub(crate) struct Scanner<'a> {
    rules: Rules<'a>,
    progress: &'a dyn Progress,
    found: Vec<Found>,
    skipped: Vec<Skipped>,
    /// Folders still to be read.
    open: Vec<Open>,
}

/// A folder to read.
struct Open {
    /// Where it is, symlinks resolved.
    real: PathBuf,
    /// Its path in the bundle.
    path: Vec<u8>,
    /// Folders, symlinks resolved, that hold the links through which the walk came here.
    trail: Vec<PathBuf>,
    mode: u32,
}

impl<'a> Scanner<'a> {
    /// A scanner that has found nothing yet.
    pub(crate) fn new(rules: Rules<'a>, progress: &'a dyn Progress) -> Self {
        Self {
            rules,
            progress,
            found: Vec::new(),
            skipped: Vec::new(),
            open: Vec::new(),
        }
    }

    /// Takes a folder and everything below it; `real` has its symlinks resolved.
    ///
    /// # Errors
    /// [`Error::Io`] for what can't be read, [`Error::Changed`] for what is gone when looked at.
    pub(crate) fn folder(&mut self, real: &Path, path: &[u8]) -> Result<()> {
        let mode = fs::metadata(real)?.mode();
        self.open.push(Open {
            real: real.to_owned(),
            path: path.to_vec(),
            trail: Vec::new(),
            mode,
        });
        while let Some(open) = self.open.pop() {
            self.read(&open)?;
        }
        Ok(())
    }

    /// One regular file, or what a link to one names, for `path`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn one(source: &Path, path: Vec<u8>) -> Result<Found> {
        let metadata = fs::metadata(source)?;
        Ok(Found {
            path,
            source: source.to_owned(),
            mode: metadata.mode(),
            what: What::File(Stamp::of(&metadata)),
        })
    }

    /// What was found, sorted by path, and what was left out.
    pub(crate) fn finish(mut self) -> (Tree, Vec<Skipped>) {
        let tree = Tree::new(self.found);
        for found in tree.iter() {
            // What leads nowhere or out was dealt with when it was found.
            let inside = matches!(found.what, What::Link(_))
                && fs::canonicalize(&found.source)
                    .is_ok_and(|end| self.rules.roots.bundle_path(&end).is_some());
            if inside && tree.resolve(&found.path).is_none() {
                self.skipped.push(Skipped {
                    path: name::escape(&found.path),
                    reason: Reason::Dangling,
                    detail: "what it names is not packed".to_owned(),
                });
            }
        }
        self.skipped.sort();
        (tree, self.skipped)
    }

    fn read(&mut self, open: &Open) -> Result<()> {
        let before = (self.found.len(), self.open.len());
        let items = fs::read_dir(&open.real).map_err(|error| gone(&open.real, error))?;
        let items = items.collect::<io::Result<Vec<_>>>()?;
        let has = |name: &str| items.iter().any(|item| item.file_name() == name);
        if !self.rules.roots.iter().any(|root| root.folder == open.path)
            && (has("pyvenv.cfg") && has("bin")
                || has("conda-meta")
                || has("urls.txt") && has("cache"))
        {
            self.skip(&open.path, Reason::Nested, "");
            return Ok(());
        }
        for item in items {
            let last = item.file_name();
            let path = join(&open.path, last.as_bytes());
            self.item(open, item.path(), path)?;
        }
        // The format has a folder of that name in each bundle.
        let is_ours = is_below(limits::RESERVED_FOLDER.as_bytes(), &open.path);
        if before == (self.found.len(), self.open.len()) && !is_ours {
            self.found.push(Found {
                path: open.path.clone(),
                source: open.real.clone(),
                mode: open.mode,
                what: What::Folder,
            });
        }
        Ok(())
    }

    fn item(&mut self, open: &Open, real: PathBuf, path: Vec<u8>) -> Result<()> {
        if self.rules.left_out.contains(&path) {
            return Ok(());
        }
        if self.rules.exclude.matches(&path) {
            self.skip(&path, Reason::Excluded, "");
            return Ok(());
        }
        if let Err(error) = allowed(&path) {
            self.skip(&path, Reason::Name, &error);
            return Ok(());
        }
        let metadata = fs::symlink_metadata(&real).map_err(|error| gone(&real, error))?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            if name::split(&path).1 == PYCACHE {
                return self.pycache(&real, &path);
            }
            self.open.push(Open {
                real,
                path,
                trail: open.trail.clone(),
                mode: metadata.mode(),
            });
        } else if kind.is_file() {
            if real != self.rules.output {
                self.push_file(path, real, &metadata);
            }
        } else if kind.is_symlink() {
            self.link(open, real, path)?;
        } else {
            let what = [
                (kind.is_socket(), "socket"),
                (kind.is_fifo(), "fifo"),
                (kind.is_block_device(), "block device"),
                (kind.is_char_device(), "character device"),
            ];
            let what = what.iter().find(|(is, _)| *is).map_or("", |(_, what)| what);
            self.skip(&path, Reason::Special, what);
        }
        Ok(())
    }

    /// Files in `__pycache__` that Python didn't write, such as numba's.
    fn pycache(&mut self, real: &Path, path: &[u8]) -> Result<()> {
        for item in fs::read_dir(real)? {
            let item = item?;
            let last = item.file_name();
            let metadata = match fs::symlink_metadata(item.path()) {
                // Python writes its files under temporary names.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            if metadata.is_file() && !is_bytecode(last.as_bytes()) {
                self.push_file(join(path, last.as_bytes()), item.path(), &metadata);
            }
        }
        Ok(())
    }

    fn link(&mut self, open: &Open, real: PathBuf, path: Vec<u8>) -> Result<()> {
        let target = fs::read_link(&real).map_err(|error| gone(&real, error))?;
        match link::judge(&self.rules, &real, &path, &target)? {
            link::Verdict::Keep(text) => self.push_link(path, real, text),
            link::Verdict::Report(reason) => {
                self.skip(&path, reason, &target.to_string_lossy());
                self.push_link(path, real, target.as_os_str().as_bytes().to_vec());
            }
            link::Verdict::File(metadata) => self.push_file(path, real, &metadata),
            link::Verdict::Folder(folder, metadata) => {
                let mut trail = open.trail.clone();
                trail.push(open.real.clone());
                if trail.iter().any(|above| above.starts_with(&folder)) {
                    self.skip(&path, Reason::Circular, &target.to_string_lossy());
                    if let Some(inside) = self.rules.roots.bundle_path(&folder) {
                        let text = relative(&path, &inside);
                        self.push_link(path, real, text);
                    }
                    return Ok(());
                }
                self.open.push(Open {
                    real: folder,
                    path,
                    trail,
                    mode: metadata.mode(),
                });
            }
        }
        Ok(())
    }

    fn push_link(&mut self, path: Vec<u8>, source: PathBuf, text: Vec<u8>) {
        self.found.push(Found {
            path,
            source,
            mode: 0o777,
            what: What::Link(text),
        });
    }

    fn push_file(&mut self, path: Vec<u8>, source: PathBuf, metadata: &std::fs::Metadata) {
        self.found.push(Found {
            path,
            source,
            mode: metadata.mode(),
            what: What::File(Stamp::of(metadata)),
        });
        if self.found.len().is_multiple_of(256) {
            self.progress
                .update(Phase::Scan, self.found.len() as u64, None);
        }
    }

    fn skip(&mut self, path: &[u8], reason: Reason, detail: &str) {
        self.skipped.push(Skipped {
            path: name::escape(path),
            reason,
            detail: detail.to_owned(),
        });
    }
}

/// What was listed a moment ago and isn't there is a change.
fn gone(path: &Path, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::NotFound {
        return Error::Changed {
            path: path.to_owned(),
            what: "vanished".to_owned(),
        };
    }
    Error::Io(error)
}

fn allowed(path: &[u8]) -> Result<(), String> {
    // An environment that was unpacked has the roots that it was packed with in it.
    if is_below(path, limits::RESERVED_FOLDER.as_bytes())
        && path != limits::RESERVED_FOLDER.as_bytes()
        && !is_below(path, limits::ROOTS_FOLDER.as_bytes())
    {
        return Err("reserved for pybundle".to_owned());
    }
    name::check(path).map_err(|error| error.to_string())
}

/// `x.cpython-311.pyc`, and the temporary `x.cpython-311.pyc.140213`.
fn is_bytecode(name: &[u8]) -> bool {
    let name = name.trim_ascii_end();
    let digits = name
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let stem = &name[..name.len() - digits];
    name.ends_with(b".pyc") || digits > 0 && stem.ends_with(b".pyc.")
}

#[cfg(test)]
mod tests;
