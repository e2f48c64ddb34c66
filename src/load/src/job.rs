//! What the ranks of a job do on one node, counted in memory that they share.
//!
//! The image's file `jobs/NONCE` has a header and one slot for each local rank: its counters and
//! the paths that fell through, as text. Children of a rank count in its slot. The file is also how
//! ranks find out whether they see the same image: see `nodes`. A rank whose node fell back counts
//! in memory of its own.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::{
    Counters, Error, Image, Result,
    error::io_at,
    image::{
        segment::Shared,
        site::{self, JOBS, Site},
        state,
    },
    receipt::{self, Draft},
};

/// What only the program's side knows, for the receipt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// `keep`, `release` or `off`.
    pub mode: String,
    /// As in `3.11.7`.
    pub python: String,
    /// What ran, as in `sys.orig_argv`.
    pub program: Vec<String>,
    /// Where the standard library comes from, and why.
    #[serde(default)]
    pub standard_library: String,
    /// Environment variables that named a packed path, and what they name now.
    pub redirected: BTreeMap<String, String>,
    /// What root has read of the program's folder for all; `None` where every process reads it.
    #[serde(default)]
    pub program_files: Option<ProgramFiles>,
}

/// What root has read of a program's own folder, and sent to the other ranks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramFiles {
    /// The folder that becomes `sys.path[0]`.
    pub folder: PathBuf,
    /// Modules that were sent.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Folders whose names were sent.
    pub folders: u64,
    /// Modules and folders that the program mentions and every rank reads for itself.
    pub left_out: u64,
    /// The first of them.
    pub left_out_named: Vec<LeftOut>,
}

/// Something that root has not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its path.
    pub path: String,
    /// The reason.
    pub why: String,
}

const MAGIC: u64 = u64::from_le_bytes(*b"pybunjob");
const HEADER: usize = 4096;
const SLOT: usize = 8192;
const TEXT: usize = 256;

/// The fixed part of a job's file.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Header {
    magic: AtomicU64,
    nonce: AtomicU64,
    ranks: AtomicU32,
    /// Ranks whose program has ended.
    left: AtomicU32,
    /// 0; 1 a rank failed; 2 the node has no room.
    failed: AtomicU32,
    /// The node's leader has done its part of the load, well or not.
    arrived: AtomicU32,
}

/// The fixed part of a slot.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct SlotHeader {
    counters: Counters,
    /// World rank.
    rank: AtomicU32,
    /// Bytes of text.
    text: AtomicU32,
}

/// The memory in which a job counts.
#[derive(Debug)]
enum Memory {
    /// The node's.
    Shared(Shared),
    /// This process's own.
    Own(Box<(SlotHeader, Mutex<Vec<PathBuf>>)>),
}

/// The place of this rank in its node's count of the job.
#[derive(Debug)]
pub struct Job {
    memory: Memory,
    nonce: u64,
    slot: usize,
    ranks: usize,
    /// The image's folder of jobs, where the draft of the receipt lies; without an image it is here.
    folder: Option<PathBuf>,
    draft: OnceLock<Draft>,
    facts: Mutex<Option<Facts>>,
    image: OnceLock<Weak<Image>>,
    /// The process whose end counts; 0 for a child's place.
    process: u32,
    gone: AtomicBool,
}

/// The job's number and the slot in what [`Job::variable`] gives.
fn parse_place(variable: &str) -> Option<(u64, usize)> {
    let (nonce, slot) = variable.split_once('/')?;
    Some((u64::from_str_radix(nonce, 16).ok()?, slot.parse().ok()?))
}

fn file_name(nonce: u64) -> String {
    format!("{nonce:016x}")
}

impl Job {
    fn new(memory: Memory, folder: Option<PathBuf>, nonce: u64, slot: usize, ranks: usize) -> Self {
        Self {
            memory,
            nonce,
            slot,
            ranks: ranks.max(1),
            folder,
            draft: OnceLock::new(),
            facts: Mutex::default(),
            image: OnceLock::new(),
            process: std::process::id(),
            gone: AtomicBool::new(false),
        }
    }

    /// A job of this process alone.
    pub(crate) fn own() -> Self {
        Self::new(Memory::Own(Box::default()), None, 0, 0, 1)
    }

    /// Makes the node's file, for this many ranks.
    pub(crate) fn create(site: &Site, nonce: u64, ranks: usize) -> Result<Self> {
        let folder = site.dir().join(JOBS);
        let path = folder.join(file_name(nonce));
        let failed = |error| io_at("cannot make", &path, error);
        let file = site::new_file(&path)?;
        state::allocate(&file, 0, (HEADER + ranks * SLOT) as u64).map_err(failed)?;
        let job = Self::new(
            Memory::Shared(Shared::open(&file).map_err(failed)?),
            Some(folder),
            nonce,
            0,
            ranks,
        );
        if let Some(header) = job.header() {
            header.nonce.store(nonce, Ordering::Relaxed);
            header.ranks.store(ranks as u32, Ordering::Relaxed);
            header.magic.store(MAGIC, Ordering::Release);
        }
        Ok(job)
    }

    /// Opens the node's file, to count in one of its slots.
    pub(crate) fn open(dir: &Path, nonce: u64, slot: usize) -> Result<Self> {
        let folder = dir.join(JOBS);
        let path = folder.join(file_name(nonce));
        let refuse = |why: &str| Error::Image {
            path: path.clone(),
            why: why.to_owned(),
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(|error| io_at("cannot open", &path, error))?;
        let shared = Shared::open(&file).map_err(|error| io_at("cannot map", &path, error))?;
        let len = shared.len();
        let mut job = Self::new(Memory::Shared(shared), Some(folder), nonce, slot, 1);
        let header = job.header().ok_or_else(|| refuse("it is too short"))?;
        let known = header.magic.load(Ordering::Acquire) == MAGIC
            && header.nonce.load(Ordering::Relaxed) == nonce;
        let ranks = header.ranks.load(Ordering::Relaxed) as usize;
        if !known || slot >= ranks || len < HEADER + ranks * SLOT {
            return Err(refuse("it is not this job's"));
        }
        job.ranks = ranks;
        Ok(job)
    }

    /// The place that a parent has told a child in [`crate::environment::JOB`]; `None` if it is
    /// gone.
    pub fn attach(image: &Image, variable: &str) -> Option<Self> {
        let (nonce, slot) = parse_place(variable)?;
        let mut job = Self::open(image.dir(), nonce, slot).ok()?;
        job.process = 0;
        Some(job)
    }

    /// The place of a rank that this process has taken before, in another part of it: from here on
    /// it is this one that leaves.
    ///
    /// # Errors
    /// [`Error::Image`], [`Error::Io`] if the place is gone.
    pub fn resume(image: &Arc<Image>, variable: &str) -> Result<Arc<Self>> {
        let malformed = || Error::Internal(format!("not a place in a job: `{variable}`"));
        let (nonce, slot) = parse_place(variable).ok_or_else(malformed)?;
        let job = Self::open(image.dir(), nonce, slot)?;
        // The rank that has begun the receipt describes the program in it.
        if let Some(draft) = job.draft().filter(|_| slot == 0) {
            let _ = job.draft.set(draft);
        }
        job.set_image(image);
        Ok(Arc::new(job))
    }

    /// What to set [`crate::environment::JOB`] to for children.
    pub fn variable(&self) -> String {
        format!("{}/{}", file_name(self.nonce), self.slot)
    }

    /// Is this the first of the ranks that share the node's image?
    pub fn is_first(&self) -> bool {
        self.slot == 0
    }

    /// This rank's slot, and how many there are on its node.
    pub(crate) fn place(&self) -> (usize, usize) {
        (self.slot, self.ranks)
    }

    /// The number that names the job on this node.
    pub(crate) fn nonce(&self) -> u64 {
        self.nonce
    }

    /// This rank's slot among so many that share the image.
    pub(crate) fn settle(&mut self, slot: usize, ranks: usize) {
        (self.slot, self.ranks) = (slot, ranks.max(1));
        if let (0, Some(header)) = (slot, self.header()) {
            header.ranks.store(ranks as u32, Ordering::Relaxed);
        }
    }

    /// The image whose state the receipt tells at the end.
    pub(crate) fn set_image(&self, image: &Arc<Image>) {
        let _ = self.image.set(Arc::downgrade(image));
    }

    /// Which rank of the world this is.
    pub(crate) fn set_rank(&self, rank: u32) {
        self.slot(self.slot).rank.store(rank, Ordering::Relaxed);
    }

    fn header(&self) -> Option<&Header> {
        match &self.memory {
            Memory::Shared(shared) => shared.one(0),
            Memory::Own(_) => None,
        }
    }

    fn slot(&self, slot: usize) -> &SlotHeader {
        static NONE: std::sync::LazyLock<SlotHeader> =
            std::sync::LazyLock::new(SlotHeader::default);
        match &self.memory {
            Memory::Own(own) => &own.0,
            // Slots below the number of ranks lie inside: checked when the file was opened.
            Memory::Shared(shared) => shared.one(HEADER + slot * SLOT).unwrap_or(&NONE),
        }
    }

    /// This rank's counters.
    pub fn count(&self) -> &Counters {
        &self.slot(self.slot).counters
    }

    /// Counts a look-up that went to the real file system, and keeps its path for the receipt
    /// while there is room.
    pub fn fell_through(&self, path: impl AsRef<Path>) {
        let path = path.as_ref();
        self.count().fall_through.fetch_add(1, Ordering::Relaxed);
        match &self.memory {
            Memory::Own(own) => {
                let mut paths = own.1.lock().unwrap_or_else(PoisonError::into_inner);
                if paths.len() < 100 {
                    paths.push(path.to_owned());
                }
            }
            Memory::Shared(shared) => {
                let bytes = path.as_os_str().as_bytes();
                let text = &self.slot(self.slot).text;
                let room = (SLOT - TEXT) as u32;
                let len = bytes.len() as u32 + 1;
                let reserve = |used: u32| used.checked_add(len).filter(|&end| end <= room);
                let at = text.fetch_update(Ordering::AcqRel, Ordering::Acquire, reserve);
                let start = HEADER + self.slot * SLOT + TEXT;
                let target = at
                    .ok()
                    .and_then(|at| shared.view::<AtomicU8>(start + at as usize, len as usize));
                for (byte, target) in bytes.iter().zip(target.unwrap_or_default()) {
                    target.store(*byte, Ordering::Relaxed);
                }
            }
        }
    }

    fn paths(&self, slot: usize) -> Vec<String> {
        match &self.memory {
            Memory::Own(own) => {
                let paths = own.1.lock().unwrap_or_else(PoisonError::into_inner);
                paths
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect()
            }
            Memory::Shared(shared) => {
                let used = self.slot(slot).text.load(Ordering::Acquire) as usize;
                let text =
                    shared.view::<AtomicU8>(HEADER + slot * SLOT + TEXT, used.min(SLOT - TEXT));
                let text = text.unwrap_or_default().iter();
                let text: Vec<u8> = text.map(|byte| byte.load(Ordering::Relaxed)).collect();
                let parts = text
                    .split(|&byte| byte == 0)
                    .filter(|part| !part.is_empty());
                parts
                    .map(|part| String::from_utf8_lossy(part).into_owned())
                    .collect()
            }
        }
    }

    /// What every rank of the node has counted so far.
    pub(crate) fn ranks(&self) -> Vec<receipt::RankCounts> {
        let slots = match &self.memory {
            Memory::Own(_) => 1,
            Memory::Shared(_) => self.ranks,
        };
        let count = |slot| receipt::RankCounts {
            rank: self.slot(slot).rank.load(Ordering::Relaxed),
            counts: self
                .slot(slot)
                .counters
                .values()
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            fell_through: self.paths(slot),
        };
        (0..slots).map(count).collect()
    }

    /// A rank of this node has failed; the others need not wait for it.
    pub(crate) fn fail(&self, no_room: bool) {
        if let Some(header) = self.header() {
            header
                .failed
                .fetch_max(if no_room { 2 } else { 1 }, Ordering::AcqRel);
        }
    }

    /// Has a rank of this node failed?
    pub(crate) fn failed(&self) -> bool {
        self.header()
            .is_some_and(|header| header.failed.load(Ordering::Acquire) != 0)
    }

    /// The node's leader has done its part: the other ranks need not sleep any longer.
    pub(crate) fn arrive(&self) {
        if let Some(header) = self.header() {
            header.arrived.store(1, Ordering::Release);
        }
    }

    /// Has it?
    pub(crate) fn has_arrived(&self) -> bool {
        self.header()
            .is_none_or(|header| header.arrived.load(Ordering::Acquire) != 0)
    }

    fn file(&self, extension: &str) -> Option<PathBuf> {
        let name = format!("{}.{extension}", file_name(self.nonce));
        Some(self.folder.as_ref()?.join(name))
    }

    /// Keeps what the load knows for the receipt, for whichever rank leaves last.
    pub(crate) fn keep_draft(&self, draft: Draft) {
        if let Some(path) = self.file("json") {
            // Without it the receipt stays as the end of the load has left it.
            let _ = serde_json::to_vec(&draft).map(|bytes| fs_err::write(path, bytes));
        }
        let _ = self.draft.set(draft);
    }

    fn draft(&self) -> Option<Draft> {
        if let Some(draft) = self.draft.get() {
            return Some(draft.clone());
        }
        let bytes = fs_err::read(self.file("json")?).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn facts(&self) -> Option<Facts> {
        let known = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_some() {
            return known.clone();
        }
        let bytes = fs_err::read(self.file("facts")?).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Adds what the program's side knows to the receipt, on the rank that wrote it; elsewhere it
    /// does nothing.
    pub fn describe(&self, facts: &Facts) {
        let Some(draft) = self.draft.get().filter(|draft| draft.is_whole()) else {
            return;
        };
        if let Some(path) = self.file("facts") {
            let _ = serde_json::to_vec(facts).map(|bytes| fs_err::write(path, bytes));
        }
        draft.write(Some(facts));
        let mut known = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(facts.clone());
    }

    /// This rank's program has ended. The node's last one writes the node's part of the receipt.
    /// To be called before the image is left; in children it does nothing.
    pub fn leave(&self) {
        if self.process != std::process::id() || self.gone.swap(true, Ordering::Relaxed) {
            return;
        }
        let before = self
            .header()
            .map(|header| header.left.fetch_add(1, Ordering::AcqRel));
        if before.is_some_and(|before| before as usize + 1 < self.ranks) {
            return;
        }
        if let Some(mut draft) = self.draft() {
            let image = self.image.get().and_then(Weak::upgrade);
            draft.update(image.as_deref(), self.ranks(), true);
            draft.write(self.facts().as_ref());
        }
        // A kept image does not gather the files of jobs that are over.
        if let Some(folder) = &self.folder {
            let _ = fs_err::remove_file(folder.join(file_name(self.nonce)));
        }
        for path in ["json", "facts"]
            .into_iter()
            .filter_map(|extension| self.file(extension))
        {
            let _ = fs_err::remove_file(path);
        }
    }
}
