//! Where the compressed bytes of entries are read from: the image, or the bundle itself.
//!
//! Both hold them at the same offsets. What comes from the image was compared with the index when
//! root read it; what comes from the bundle is compared here, with the header before it.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::fs::FileExt},
    path::{Path, PathBuf},
};

use memmap2::MmapMut;
use pybundle_bundle::{Index, layout, reader, record::Entry};

use super::segment::Mapping;
use crate::{Error, Result, error::io_at, room::is_memory};

/// Entries with as many compressed bytes in the image are not copied: what a process has in memory
/// must not grow with the largest file of an environment.
const MAPPED: u64 = 1 << 20;

/// Working memory that goes back to the system when it is dropped, whatever the allocator thinks.
#[derive(Default)]
pub(crate) struct Scratch {
    memory: Option<MmapMut>,
    /// Mapped instead.
    part: Option<Mapping>,
}

impl Scratch {
    /// At least `len` bytes, of any content.
    pub(crate) fn room(&mut self, len: usize) -> Result<&mut [u8]> {
        let has = self.memory.as_ref().map_or(0, |map| map.len());
        if has < len {
            let new = len.max(1 << 16).next_power_of_two();
            // The old memory first: never both at once.
            self.memory = None;
            self.memory = Some(MmapMut::map_anon(new)?);
        }
        let all: &mut [u8] = self.memory.as_mut().map_or(&mut [], |map| map);
        Ok(&mut all[..len])
    }

    /// Holds a part of a file until the next one, or until it shrinks.
    fn map(&mut self, file: &File, at: u64, len: usize) -> io::Result<&[u8]> {
        self.part = None;
        let part = Mapping::part(file, at, len)?;
        Ok(AsRef::<[u8]>::as_ref(&*self.part.insert(part)))
    }

    /// Gives back what was needed for one large entry.
    pub(crate) fn shrink(&mut self, most: usize) {
        self.part = None;
        if self.memory.as_ref().is_some_and(|map| map.len() > most) {
            self.memory = None;
        }
    }
}

/// A file that holds compressed bytes at the bundle's offsets.
#[derive(Debug)]
pub(crate) struct Stored {
    file: File,
    path: PathBuf,
    /// It is the bundle, which somebody may change.
    is_bundle: bool,
}

impl Stored {
    /// The image's own copy.
    pub(crate) fn packed(file: File, path: &Path) -> Self {
        Self {
            file,
            path: path.to_owned(),
            is_bundle: false,
        }
    }

    /// The bundle, already open.
    pub(crate) fn bundle(file: File, path: &Path) -> Self {
        Self {
            file,
            path: path.to_owned(),
            is_bundle: true,
        }
    }

    /// Opens the bundle again.
    ///
    /// # Errors
    /// [`Error::Changed`] if it is not there or has another length.
    pub(crate) fn reopen(path: &Path, expected: u64) -> Result<Self> {
        let changed = |why: String| Error::Changed {
            path: path.to_owned(),
            why,
        };
        let file = File::open(path).map_err(|error| changed(error.to_string()))?;
        let got = file.metadata()?.len();
        if got != expected {
            return Err(changed(format!(
                "length: expected {expected} bytes, got {got}"
            )));
        }
        Ok(Self::bundle(file, path))
    }

    /// The bundle as this process has it open, for its children: another may lie at its path by
    /// then. `None` if it isn't the bundle.
    pub(crate) fn lend(&self) -> Option<String> {
        let pid = std::process::id();
        self.is_bundle
            .then(|| format!("{pid}/{}", self.file.as_raw_fd()))
    }

    /// The bundle as another process has lent it; `None` if that has ended, or has another file
    /// there.
    pub(crate) fn borrow(lent: &str, path: &Path, expected: u64) -> Option<Self> {
        let (pid, number) = lent.split_once('/')?;
        let (pid, number): (u32, u32) = (pid.parse().ok()?, number.parse().ok()?);
        let lent = File::open(format!("/proc/{pid}/fd/{number}")).ok()?;
        let found = lent.metadata().ok()?;
        (found.is_file() && found.len() == expected).then(|| Self::bundle(lent, path))
    }

    /// Bytes that reading an entry takes from the bundle; 0 if it lies in the image.
    pub(crate) fn cost(&self, entry: &Entry) -> u64 {
        if self.is_bundle { entry.stored } else { 0 }
    }

    /// Reads and verifies an entry's compressed bytes.
    ///
    /// # Errors
    /// [`Error::Bundle`] if they are not what was packed; [`Error::Changed`], [`Error::Io`].
    pub(crate) fn read<'a, B: AsRef<[u8]>>(
        &self,
        index: &Index<B>,
        entry: &Entry,
        scratch: &'a mut Scratch,
    ) -> Result<&'a [u8]> {
        let before = if self.is_bundle {
            layout::local_header_len(entry) as usize
        } else {
            0
        };
        let len = usize::try_from(entry.stored).unwrap_or(usize::MAX);
        if entry.stored >= MAPPED && self.is_in_memory() {
            let end = entry.offset.saturating_add(entry.stored);
            if self.file.metadata()?.len() < end {
                return Err(self.too_short(entry));
            }
            let stored = scratch.map(&self.file, entry.offset, len);
            let stored = stored.map_err(|error| io_at("cannot map", &self.path, error))?;
            reader::check(index, entry, stored)?;
            return Ok(stored);
        }
        let bytes = scratch.room(before.saturating_add(len))?;
        let read = self.file.read_exact_at(bytes, entry.offset - before as u64);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.too_short(entry),
            _ => io_at("cannot read", &self.path, error),
        })?;
        let (header, stored) = bytes.split_at(before);
        if self.is_bundle {
            let expected = layout::local_header(index, entry);
            if let Some(at) = header
                .iter()
                .zip(&expected)
                .position(|(got, expected)| got != expected)
            {
                let offset = entry.offset - (before - at) as u64;
                return Err(pybundle_bundle::Error::Structure { offset }.into());
            }
        }
        reader::check(index, entry, stored)?;
        Ok(stored)
    }

    /// Can its bytes be mapped? On a disk an error of reading them would be a signal, and the
    /// bundle may become shorter at any time.
    fn is_in_memory(&self) -> bool {
        let image = self.path.parent().filter(|_| !self.is_bundle);
        image.is_some_and(|image| is_memory(image).unwrap_or(false))
    }

    fn too_short(&self, entry: &Entry) -> Error {
        Error::Changed {
            path: self.path.clone(),
            why: format!("it ends before offset {}", entry.offset + entry.stored),
        }
    }
}
