//! The state of an image: one file of atomics, mapped by every process that holds the image.
//!
//! A header, then one byte for each entry, folder and group of the index that says whether it is in
//! place. `progress` counts every step forward and is the word on which everybody sleeps.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{
        LazyLock,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use pybundle_bundle::Identity;

use super::segment::{self, Shared};
use crate::{Error, Result, plan::Sizes};

/// Changes with every change of what lies in an image's folder.
pub(crate) const LAYOUT: u32 = 2;

const MAGIC: u64 = u64::from_le_bytes(*b"pybimage");
const HEADER: usize = 4096;

/// Where the compressed bytes of cold entries are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cold {
    /// Not known yet: a load is under way.
    Unknown = 0,
    /// In the image.
    Node = 1,
    /// In the bundle alone.
    Bundle = 2,
}

/// The fixed part.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Header {
    magic: AtomicU64,
    layout: AtomicU32,
    entries: AtomicU32,
    folders: AtomicU32,
    groups: AtomicU32,
    boot: [AtomicU64; 2],
    identity: [AtomicU64; 4],
    index_len: AtomicU64,
    manifest_len: AtomicU64,
    code_len: AtomicU64,
    /// Futex word: counts steps forward.
    progress: AtomicU32,
    waiters: AtomicU32,
    /// Index, manifest and the room for code are there.
    prepared: AtomicU32,
    /// Everything that is placed before imports begin is in place: written last.
    complete: AtomicU32,
    cold: AtomicU32,
    /// Hot code is decoded when it is needed, as cold code is.
    sparse: AtomicU32,
    /// All bytes of the bundle before this offset are in the image.
    received: AtomicU64,
}

/// The mapped state.
#[derive(Debug)]
pub(crate) struct State {
    shared: Shared,
    entries: usize,
    folders: usize,
    groups: usize,
}

impl State {
    /// Fills a new file.
    pub(crate) fn create(file: &File, identity: Identity, sizes: &Sizes) -> Result<Self> {
        let (entries, folders, groups) = (sizes.entries, sizes.folders, sizes.groups);
        let len = HEADER + (entries + folders + groups) as usize;
        allocate(file, 0, len as u64)?;
        let shared = Shared::open(file)?;
        let state = Self {
            shared,
            entries: entries as usize,
            folders: folders as usize,
            groups: groups as usize,
        };
        let header = state.header();
        header.layout.store(LAYOUT, Ordering::Relaxed);
        header.entries.store(entries, Ordering::Relaxed);
        header.folders.store(folders, Ordering::Relaxed);
        header.groups.store(groups, Ordering::Relaxed);
        store(&header.boot, &boot_id()?);
        store(&header.identity, &identity.0);
        for (word, len) in [
            (&header.index_len, sizes.index_len),
            (&header.manifest_len, sizes.manifest_len),
        ] {
            word.store(len, Ordering::Relaxed);
        }
        header.magic.store(MAGIC, Ordering::Release);
        Ok(state)
    }

    /// Maps an existing file and checks that it is an image of this boot and layout.
    pub(crate) fn open(file: &File, path: &Path) -> Result<Self> {
        let refuse = |why: String| Error::Image {
            path: path.to_owned(),
            why,
        };
        let len = file.metadata()?.len();
        if len < HEADER as u64 {
            return Err(refuse(format!("state: expected {HEADER} bytes, got {len}")));
        }
        let mut state = Self {
            shared: Shared::open(file)?,
            entries: 0,
            folders: 0,
            groups: 0,
        };
        let header = state.header();
        if header.magic.load(Ordering::Acquire) != MAGIC {
            return Err(refuse("state has another magic".to_owned()));
        }
        let layout = header.layout.load(Ordering::Relaxed);
        if layout != LAYOUT {
            return Err(refuse(format!("layout: expected {LAYOUT}, got {layout}")));
        }
        if load::<16>(&header.boot) != boot_id()? {
            return Err(refuse("made before this machine last started".to_owned()));
        }
        let rows = [&header.entries, &header.folders, &header.groups]
            .map(|rows| rows.load(Ordering::Relaxed) as usize);
        if (HEADER + rows.iter().sum::<usize>()) as u64 != len {
            return Err(refuse(format!("state has {len} bytes for {rows:?} rows")));
        }
        [state.entries, state.folders, state.groups] = rows;
        Ok(state)
    }

    fn header(&self) -> &Header {
        static NONE: LazyLock<Header> = LazyLock::new(Header::default);
        // The file is never shorter than a header: checked when it was opened.
        self.shared.one::<Header>(0).unwrap_or(&NONE)
    }

    /// The bundle's identity.
    pub(crate) fn identity(&self) -> Identity {
        Identity(load::<32>(&self.header().identity))
    }

    /// Bytes of index and manifest.
    pub(crate) fn lens(&self) -> (u64, u64) {
        let header = self.header();
        (
            header.index_len.load(Ordering::Relaxed),
            header.manifest_len.load(Ordering::Relaxed),
        )
    }

    /// Rows of entries, folders and groups.
    pub(crate) fn rows(&self) -> (usize, usize, usize) {
        (self.entries, self.folders, self.groups)
    }

    /// Index, manifest and the room for code are there.
    pub(crate) fn is_prepared(&self) -> bool {
        self.header().prepared.load(Ordering::Acquire) != 0
    }

    /// They are; the code segment has this many bytes.
    pub(crate) fn set_prepared(&self, code_len: u64) {
        self.header().code_len.store(code_len, Ordering::Relaxed);
        self.header().prepared.store(1, Ordering::Release);
        self.step();
    }

    /// Bytes of the code segment.
    pub(crate) fn code_len(&self) -> u64 {
        self.header().code_len.load(Ordering::Relaxed)
    }

    /// May imports begin?
    pub(crate) fn is_complete(&self) -> bool {
        self.header().complete.load(Ordering::Acquire) != 0
    }

    /// They may. True for the one call that made it so.
    pub(crate) fn set_complete(&self) -> bool {
        let first = self.header().complete.swap(1, Ordering::AcqRel) == 0;
        self.step();
        first
    }

    /// Is hot code decoded only when it is needed? So a process makes its image that is alone and
    /// has the bundle at hand.
    pub(crate) fn is_sparse(&self) -> bool {
        self.header().sparse.load(Ordering::Acquire) != 0
    }

    /// Must somebody decode before imports begin: all that is hot, or all but code if that is to be
    /// decoded `on_demand`?
    pub(crate) fn lacks_hot(&self, on_demand: bool) -> bool {
        !self.is_complete() || self.is_sparse() && !on_demand
    }

    /// It is, when the image becomes complete; or no longer, since all of it is in place.
    pub(crate) fn set_sparse(&self, sparse: bool) {
        self.header().sparse.store(sparse.into(), Ordering::Release);
    }

    /// Where the compressed bytes of cold entries are.
    pub(crate) fn cold(&self) -> Cold {
        match self.header().cold.load(Ordering::Acquire) {
            1 => Cold::Node,
            2 => Cold::Bundle,
            _ => Cold::Unknown,
        }
    }

    /// They are there now. The image is never the worse of two choices.
    pub(crate) fn set_cold(&self, cold: Cold) {
        let word = &self.header().cold;
        if cold == Cold::Node {
            word.store(cold as u32, Ordering::Release);
        } else {
            let unknown = Cold::Unknown as u32;
            // Another job may have kept them meanwhile: then they are on the node.
            let _ =
                word.compare_exchange(unknown, cold as u32, Ordering::AcqRel, Ordering::Acquire);
        }
        self.step();
    }

    /// Offset in the bundle up to which its bytes are in the image.
    pub(crate) fn received(&self) -> u64 {
        self.header().received.load(Ordering::Acquire)
    }

    /// They are, up to this offset.
    pub(crate) fn set_received(&self, offset: u64) {
        self.header().received.fetch_max(offset, Ordering::AcqRel);
        self.step();
    }

    fn bytes(&self, from: usize, count: usize, row: u32) -> Option<&AtomicU8> {
        if row as usize >= count {
            return None;
        }
        self.shared.one(HEADER + from + row as usize)
    }

    fn is_set(byte: Option<&AtomicU8>) -> bool {
        byte.is_some_and(|byte| byte.load(Ordering::Acquire) != 0)
    }

    fn set(byte: Option<&AtomicU8>) {
        if let Some(byte) = byte {
            byte.store(1, Ordering::Release);
        }
    }

    /// Is the entry in place?
    pub(crate) fn entry(&self, row: u32) -> bool {
        Self::is_set(self.bytes(0, self.entries, row))
    }

    /// It is. Call [`Self::step`] when others may wait for it.
    pub(crate) fn set_entry(&self, row: u32) {
        Self::set(self.bytes(0, self.entries, row));
    }

    /// Does the folder exist in the tree?
    pub(crate) fn folder(&self, row: u32) -> bool {
        Self::is_set(self.bytes(self.entries, self.folders, row))
    }

    /// It does.
    pub(crate) fn set_folder(&self, row: u32) {
        Self::set(self.bytes(self.entries, self.folders, row));
    }

    /// Is the group placed?
    pub(crate) fn group(&self, row: u32) -> bool {
        Self::is_set(self.bytes(self.entries + self.folders, self.groups, row))
    }

    /// It is.
    pub(crate) fn set_group(&self, row: u32) {
        Self::set(self.bytes(self.entries + self.folders, self.groups, row));
    }

    /// The count of steps so far: what [`Self::sleep`] compares.
    pub(crate) fn steps(&self) -> u32 {
        self.header().progress.load(Ordering::Acquire)
    }

    /// Something moved: wakes those who wait.
    pub(crate) fn step(&self) {
        let header = self.header();
        header.progress.fetch_add(1, Ordering::AcqRel);
        if header.waiters.load(Ordering::SeqCst) > 0 {
            segment::wake(&header.progress);
        }
    }

    /// Sleeps until something moves beyond `seen` steps, at most for `timeout`.
    pub(crate) fn sleep(&self, seen: u32, timeout: Duration) {
        let header = self.header();
        header.waiters.fetch_add(1, Ordering::SeqCst);
        segment::wait(&header.progress, seen, timeout);
        header.waiters.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Allocates bytes of a file: `ENOSPC` here is what would be a SIGBUS later.
pub(crate) fn allocate(file: &File, at: u64, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    let signed =
        |value: u64| i64::try_from(value).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG));
    loop {
        match nix::fcntl::posix_fallocate(file, signed(at)?, signed(len)?) {
            Err(nix::errno::Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Identifies this boot of the machine.
pub(crate) fn boot_id() -> Result<[u8; 16]> {
    let text = fs_err::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let mut digits = text.bytes().filter_map(|byte| (byte as char).to_digit(16));
    let mut id = [0; 16];
    for byte in &mut id {
        let (high, low) = (digits.next().unwrap_or(0), digits.next().unwrap_or(0));
        *byte = (high << 4 | low) as u8;
    }
    Ok(id)
}

fn store(words: &[AtomicU64], bytes: &[u8]) {
    for (word, &part) in words.iter().zip(bytes.as_chunks().0) {
        word.store(u64::from_le_bytes(part), Ordering::Relaxed);
    }
}

fn load<const N: usize>(words: &[AtomicU64]) -> [u8; N] {
    let mut bytes = [0; N];
    for (word, part) in words.iter().zip(bytes.as_chunks_mut().0) {
        *part = word.load(Ordering::Relaxed).to_le_bytes();
    }
    bytes
}
