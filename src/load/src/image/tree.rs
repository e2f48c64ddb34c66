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
    NixPath,
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

/// Folders below a top, entered one name at a time without following symlinks: nothing is made
/// outside, whatever links lie below. Keeps those of the last path open.
pub(crate) struct Chain {
    path: PathBuf,
    top: OwnedFd,
    /// Rows and descriptors from the top down to the folder used last.
    open: Vec<(u32, OwnedFd)>,
    /// Permissions of new folders, before the umask.
    mode: Mode,
}

fn folder_flags() -> OFlag {
    OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_PATH
}

impl Chain {
    /// Opens the top, at `path`.
    pub(crate) fn open(path: &Path, mode: u32) -> Result<Self> {
        let top = openat(AT_FDCWD, path, folder_flags(), Mode::empty())
            .map_err(|error| io_at("cannot open", path, error))?;
        Ok(Self {
            path: path.to_owned(),
            top,
            open: Vec::new(),
            mode: Mode::from_bits_truncate(mode),
        })
    }

    /// The path of an entry, for callers and messages.
    pub(crate) fn path(&self, path: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(path))
    }

    /// The open folder with this row, made if need be; `state` knows which ones are.
    pub(crate) fn folder<B: AsRef<[u8]>>(
        &mut self,
        index: &Index<B>,
        state: Option<&State>,
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
            .zip(&self.open)
            .take_while(|((row, _), (open, _))| row == open)
            .count();
        self.open.truncate(known);
        for &(row, folder) in &rows[known..] {
            let full = index.text(folder.path);
            let last = OsStr::from_bytes(name::split(full).1);
            let above = self.last();
            let open = if state.is_some_and(|state| state.folder(row)) {
                enter(above, last)
            } else {
                make_and_enter(above, last, self.mode)
                    .inspect(|_| state.into_iter().for_each(|state| state.set_folder(row)))
            };
            let open = open.map_err(|(what, error)| io_at(what, &self.path(full), error))?;
            self.open.push((row, open));
        }
        Ok(self.last())
    }

    fn last(&self) -> BorrowedFd<'_> {
        let last = self.open.last();
        last.map_or(self.top.as_fd(), |(_, open)| open.as_fd())
    }
}

/// Opens a folder, unless it is a symlink; what failed, if it fails.
fn enter(above: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, (&'static str, Errno)> {
    let open = openat(above, name, folder_flags(), Mode::empty());
    open.map_err(|error| ("cannot enter", error))
}

/// Makes a folder unless it is there, and opens it as [`enter`] does.
pub(crate) fn make_and_enter(
    above: BorrowedFd<'_>,
    name: &OsStr,
    mode: Mode,
) -> Result<OwnedFd, (&'static str, Errno)> {
    match mkdirat(above, name, mode) {
        Ok(()) | Err(Errno::EEXIST) => enter(above, name),
        Err(error) => Err(("cannot make", error)),
    }
}

/// Puts entries into the tree. Keeps the folders of the last path open.
pub(crate) struct Tree {
    chain: Chain,
    umask: Mode,
}

impl Tree {
    /// Opens the tree at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            chain: Chain::open(path, 0o755)?,
            umask: umask(),
        })
    }

    /// Closes the folders of the last path.
    pub(crate) fn rest(&mut self) {
        self.chain.open.clear();
    }

    /// Makes the folder with this row and those above it.
    pub(crate) fn make_folder<B: AsRef<[u8]>>(
        &mut self,
        index: &Index<B>,
        state: &State,
        row: u32,
    ) -> Result<()> {
        self.chain.folder(index, Some(state), row).map(drop)
    }

    /// Makes the folder itself.
    pub(crate) fn empty_folder<B: AsRef<[u8]>>(
        &mut self,
        index: &Index<B>,
        state: &State,
        entry: &Entry,
    ) -> Result<()> {
        let path = index.text(entry.path);
        let full = self.chain.path(path);
        let last = OsStr::from_bytes(name::split(path).1);
        match mkdirat(
            self.chain.folder(index, Some(state), entry.folder)?,
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
        let full = self.chain.path(path);
        let last = OsStr::from_bytes(name::split(path).1);
        let target = OsStr::from_bytes(target);
        let folder = self.chain.folder(index, Some(state), entry.folder)?;
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
        let full = self.chain.path(path);
        let mode = Mode::from_bits_truncate(entry.mode & 0o555 | 0o400);
        let stripped = mode.intersects(self.umask);
        let folder = self.chain.folder(index, Some(state), entry.folder)?;
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
            settle(&file, mode, stripped).map_err(|(what, error)| io_at(what, &full, error))?;
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
    match create_new(folder, name.as_c_str(), mode) {
        // Its owner died: the claim is ours now, so the name is too.
        Err(Errno::EEXIST) => {
            unlinkat(folder, name.as_c_str(), UnlinkatFlags::NoRemoveDir)?;
            create_new(folder, name.as_c_str(), mode)
        }
        result => result,
    }
}

/// Makes a file of a name that nothing has, not even a symlink.
pub(crate) fn create_new<N: NixPath + ?Sized>(
    folder: BorrowedFd<'_>,
    name: &N,
    mode: Mode,
) -> nix::Result<File> {
    let flags =
        OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(folder, name, flags, mode).map(File::from)
}

/// Gives a file that was written its time, and its mode where the umask took some of it.
pub(crate) fn settle(file: &File, mode: Mode, stripped: bool) -> Result<(), (&'static str, Errno)> {
    if stripped {
        fchmod(file, mode).map_err(|error| ("cannot set the mode of", error))?;
    }
    futimens(file, &TIME, &TIME).map_err(|error| ("cannot set the time of", error))
}

/// The permissions that this process takes from new files. Asking the kernel would set them.
pub(crate) fn umask() -> Mode {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Umask:"));
    let bits = line.and_then(|digits| u32::from_str_radix(digits.trim(), 8).ok());
    // Unknown: then every mode is set again.
    bits.map_or(Mode::all(), Mode::from_bits_truncate)
}
