//! Files, links and folders of the tree: written under a private name, renamed when whole.
//!
//! Folders are entered one name at a time without following symlinks. Files are read-only with a
//! fixed time, so that caches keyed by path and time stay valid from run to run.

use std::{
    ffi::{CString, OsStr},
    fs::File,
    io::Write,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, openat, readlinkat, renameat},
    sys::{
        stat::{Mode, fchmod, futimens, mkdirat},
        time::TimeSpec,
    },
    unistd::{UnlinkatFlags, symlinkat, unlinkat},
};
use pybundle_bundle::{Index, limits::NONE, name, record::Entry};

use super::{
    segment::Target,
    state::{self, State},
};
use crate::{Error, Result, error::io_at};

/// 1980-01-01 00:00 UTC: the time of every entry of a bundle.
const TIME: TimeSpec = TimeSpec::new(315_532_800, 0);

/// Contents of more bytes than this are decoded in place, without a copy in private memory.
pub(crate) const IN_PLACE: u64 = 4 << 20;

/// Puts entries into the tree. Keeps the folders of the last path open.
pub(crate) struct Tree {
    path: PathBuf,
    top: OwnedFd,
    /// Rows and descriptors from the top down to the folder used last.
    chain: Vec<(u32, OwnedFd)>,
    umask: Mode,
}

fn folder_flags() -> OFlag {
    OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_PATH
}

impl Tree {
    /// Opens the tree at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let top = openat(AT_FDCWD, path, folder_flags(), Mode::empty())
            .map_err(|error| io_at("cannot open", path, error))?;
        Ok(Self {
            path: path.to_owned(),
            top,
            chain: Vec::new(),
            umask: umask(),
        })
    }

    /// Closes the folders of the last path.
    pub(crate) fn rest(&mut self) {
        self.chain.clear();
    }

    /// The path of an entry, for callers and messages.
    pub(crate) fn path(&self, path: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(path))
    }

    /// The open folder with this row, made if need be.
    fn folder<B: AsRef<[u8]>>(
        &mut self,
        index: &Index<B>,
        state: &State,
        row: u32,
    ) -> Result<BorrowedFd<'_>> {
        let mut rows = Vec::new();
        let mut next = row;
        while next != 0 {
            let folder = index.folder(next).filter(|folder| folder.parent != NONE);
            let folder = folder.ok_or(Error::Row {
                what: "folder",
                row: next,
            })?;
            rows.push((next, folder));
            next = folder.parent;
        }
        rows.reverse();
        let known = rows
            .iter()
            .zip(&self.chain)
            .take_while(|((row, _), (open, _))| row == open)
            .count();
        self.chain.truncate(known);
        for &(row, folder) in &rows[known..] {
            let full = index.text(folder.path);
            let last = OsStr::from_bytes(name::split(full).1);
            let above = self
                .chain
                .last()
                .map_or(self.top.as_fd(), |(_, open)| open.as_fd());
            if !state.folder(row) {
                match mkdirat(above, last, Mode::from_bits_truncate(0o755)) {
                    Ok(()) | Err(Errno::EEXIST) => state.set_folder(row),
                    Err(error) => return Err(io_at("cannot make", &self.path(full), error)),
                }
            }
            let open = openat(above, last, folder_flags(), Mode::empty())
                .map_err(|error| io_at("cannot enter", &self.path(full), error))?;
            self.chain.push((row, open));
        }
        Ok(self
            .chain
            .last()
            .map_or(self.top.as_fd(), |(_, open)| open.as_fd()))
    }

    /// Makes the folder with this row and those above it.
    pub(crate) fn make_folder<B: AsRef<[u8]>>(
        &mut self,
        index: &Index<B>,
        state: &State,
        row: u32,
    ) -> Result<()> {
        self.folder(index, state, row).map(drop)
    }

    /// Makes the folder itself.
    pub(crate) fn empty_folder<B: AsRef<[u8]>>(
        &mut self,
        index: &Index<B>,
        state: &State,
        entry: &Entry,
    ) -> Result<()> {
        let path = index.text(entry.path);
        let full = self.path(path);
        let last = OsStr::from_bytes(name::split(path).1);
        match mkdirat(
            self.folder(index, state, entry.folder)?,
            last,
            Mode::from_bits_truncate(0o755),
        ) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(error) => Err(io_at("cannot make", &full, error)),
        }
    }

    /// Makes a symlink to `target`.
    pub(crate) fn link<B: AsRef<[u8]>>(
        &mut self,
        index: &Index<B>,
        state: &State,
        entry: &Entry,
        target: &[u8],
    ) -> Result<()> {
        let path = index.text(entry.path);
        let full = self.path(path);
        let last = OsStr::from_bytes(name::split(path).1);
        let target = OsStr::from_bytes(target);
        let folder = self.folder(index, state, entry.folder)?;
        match symlinkat(target, folder, last) {
            Ok(()) => Ok(()),
            // Its owner died after it had made the link: a link is whole or not there.
            Err(Errno::EEXIST) if readlinkat(folder, last).is_ok_and(|there| there == target) => {
                Ok(())
            }
            Err(error) => Err(io_at("cannot make", &full, error)),
        }
    }

    /// Makes a file; `fill` writes its content, into a slice of exactly its size.
    pub(crate) fn file<B: AsRef<[u8]>>(
        &mut self,
        index: &Index<B>,
        state: &State,
        row: u32,
        entry: &Entry,
        content: Content<'_>,
    ) -> Result<()> {
        let path = index.text(entry.path);
        let full = self.path(path);
        let mode = Mode::from_bits_truncate(entry.mode & 0o555 | 0o400);
        let stripped = mode.intersects(self.umask);
        let folder = self.folder(index, state, entry.folder)?;
        let last = OsStr::from_bytes(name::split(path).1);
        let private = private_name(row);
        let failed = |what, error: std::io::Error| io_at(what, &full, error);
        let file =
            create(folder, &private, mode).map_err(|error| failed("cannot make", error.into()))?;
        let written = match content {
            Content::Bytes(bytes) => (&file)
                .write_all(bytes)
                .map_err(|error| failed("cannot write", error)),
            Content::InPlace(fill) => state::allocate(&file, 0, entry.size)
                .and_then(|()| Target::new(&file, entry.size as usize))
                .map_err(|error| failed("cannot write", error))
                .and_then(|mut target| fill(&mut target)),
        };
        let finished = written.and_then(|()| {
            if stripped {
                fchmod(&file, mode)
                    .map_err(|error| failed("cannot set the mode of", error.into()))?;
            }
            futimens(&file, &TIME, &TIME)
                .map_err(|error| failed("cannot set the time of", error.into()))?;
            renameat(folder, private.as_c_str(), folder, last)
                .map_err(|error| failed("cannot make", error.into()))
        });
        if finished.is_err() {
            let _ = unlinkat(folder, private.as_c_str(), UnlinkatFlags::NoRemoveDir);
        }
        finished
    }
}

/// What [`Tree::file`] writes.
pub(crate) enum Content<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// What the function puts into the file's own memory.
    InPlace(&'a mut dyn FnMut(&mut [u8]) -> Result<()>),
}

fn private_name(row: u32) -> CString {
    CString::new(format!(".pybundle-{row}")).unwrap_or_default()
}

fn create(folder: BorrowedFd<'_>, name: &CString, mode: Mode) -> nix::Result<File> {
    let flags =
        OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(folder, name.as_c_str(), flags, mode) {
        // Its owner died: the claim is ours now, so the name is too.
        Err(Errno::EEXIST) => {
            unlinkat(folder, name.as_c_str(), UnlinkatFlags::NoRemoveDir)?;
            openat(folder, name.as_c_str(), flags, mode)
        }
        result => result,
    }
    .map(File::from)
}

/// The permissions that this process takes from new files. Asking the kernel would set them.
fn umask() -> Mode {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Umask:"));
    let bits = line.and_then(|digits| u32::from_str_radix(digits.trim(), 8).ok());
    // Unknown: then every mode is set again.
    bits.map_or(Mode::all(), Mode::from_bits_truncate)
}
