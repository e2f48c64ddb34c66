//! The node image: what lies on a node, shared by its ranks and their children.
//!
//! | module | holds |
//! | --- | --- |
//! | `site` | the folder, locked: found, joined, made |
//! | `lock`, `sweep` | who holds an image, and removing those that nobody holds |
//! | `state`, `claims` | what is in place, who is at work on what |
//! | `segment` | mapped memory: the `unsafe` part |
//! | `stored` | where compressed bytes are read from |
//! | `work` | entries into place: claimed, read, verified, decoded |
//! | [`boot`] | how other Pythons of the node find the image |
//! | `interpreter` | the packed Python: what it reads before a finder serves it |
//! | `code`, `tree` | where they go: the code segment, the tree |

pub mod boot;
pub(crate) mod claims;
pub(crate) mod code;
pub(crate) mod interpreter;
pub(crate) mod lock;
pub(crate) mod place;
pub(crate) mod segment;
pub(crate) mod site;
pub(crate) mod state;
pub(crate) mod stored;
pub(crate) mod sweep;
pub(crate) mod tree;
pub(crate) mod work;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use pybundle_bundle::{Index, Manifest};

pub use interpreter::Interpreter;
pub use segment::Mapping;
pub use sweep::{Cleaned, clean, unstage};

use crate::{Error, Job, Result, environment::DEFAULT_TIMEOUT, error::io_at, folder, mounts};
use site::Site;
use stored::Stored;
use work::{Blocks, Worker};

/// An attached node image. Dropping it leaves it.
pub struct Image {
    site: Site,
    index: Index<Mapping>,
    manifest: Manifest,
    code: Mapping,
    blocks: Blocks,
    /// Groups, each with the entries of blocks that hold code of its modules.
    code_of_groups: OnceLock<BTreeSet<(u32, u32)>>,
    prefix: Vec<u8>,
    bundle: PathBuf,
    stored: OnceLock<Stored>,
    job: OnceLock<Arc<Job>>,
    workers: Mutex<Vec<Worker>>,
    timeout: Option<Duration>,
    process: AtomicU32,
    left: AtomicBool,
    executable: bool,
}

impl Image {
    /// Attaches to a complete image, without other ranks and without MPI.
    ///
    /// # Errors
    /// [`Error::Image`] if it isn't one of this user, this boot and this version, or not whole.
    pub fn attach(dir: &Path) -> Result<Self> {
        let site = Site::attach(dir)?;
        if !site.state().is_complete() {
            let path = dir.to_owned();
            let why = "it is not complete".to_owned();
            return Err(Error::Image { path, why });
        }
        Self::open(site, Some(DEFAULT_TIMEOUT))
    }

    /// An image whose index and manifest are there.
    pub(crate) fn open(site: Site, timeout: Option<Duration>) -> Result<Self> {
        let map = |name, expected: u64| {
            let path = site.dir().join(name);
            let file = site::open_file(&path)?;
            let map = Mapping::open(&file).map_err(|error| io_at("cannot map", &path, error))?;
            let got = map.as_ref().len() as u64;
            if got == expected {
                return Ok(map);
            }
            let why = format!("length: expected {expected} bytes, got {got}");
            Err(Error::Image { path, why })
        };
        let (index_len, manifest_len) = site.state().lens();
        let index = Index::open(map(site::INDEX, index_len)?)?;
        let manifest = Manifest::from_bytes(map(site::MANIFEST, manifest_len)?.as_ref())?;
        let code = map(site::CODE, site.state().code_len())?;
        let rows = [index.entries(), index.folders(), index.groups()].map(|rows| rows as usize);
        if <[usize; 3]>::from(site.state().rows()) != rows {
            let path = site.dir().to_owned();
            let why = "its state is of another index".to_owned();
            return Err(Error::Image { path, why });
        }
        let executable = folder::is_executable(site.dir());
        Ok(Self {
            blocks: Blocks::of(&index),
            code_of_groups: OnceLock::new(),
            prefix: site.prefix(),
            bundle: site.source()?,
            site,
            index,
            manifest,
            code,
            stored: OnceLock::new(),
            job: OnceLock::new(),
            workers: Mutex::default(),
            timeout,
            process: AtomicU32::new(std::process::id()),
            left: AtomicBool::new(false),
            executable,
        })
    }

    /// The image's folder.
    pub fn dir(&self) -> &Path {
        self.site.dir()
    }

    /// May libraries be loaded from the tree? Not where its file system is mounted `noexec`.
    pub fn is_executable(&self) -> bool {
        self.executable
    }

    /// Is the image out of reach of the user's other jobs on this node, by mounts of this job's own?
    /// `None` where it can't be told.
    pub fn is_private(&self) -> Option<bool> {
        mounts::is_private(self.dir())
    }

    /// The folder that stands for the environment.
    pub fn tree(&self) -> &Path {
        self.site.tree()
    }

    /// The bundle's index.
    pub fn index(&self) -> &Index<Mapping> {
        &self.index
    }

    /// The bundle's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The bundle that the image was made from.
    pub fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// Bytes that the image takes now on its file system.
    pub fn allocated(&self) -> u64 {
        sweep::allocated(self.dir())
    }

    /// Is the code of a module in place? If not, [`Self::code`] reads and decodes, or waits.
    pub fn has_code(&self, module: u32) -> bool {
        let block = self.blocks.of_module(module);
        block.is_some_and(|block| self.site.state().entry(block.entry))
    }

    /// Is all hot code in place?
    pub(crate) fn has_hot_code(&self) -> bool {
        let hot = |row: u32| {
            let entry = self.index.entry(row);
            entry.is_some_and(|entry| self.index.is_hot(&entry))
        };
        let mut blocks = self.blocks.entries();
        blocks.all(|entry| self.site.state().entry(entry) || !hot(entry))
    }

    /// The marshalled code of a module, with its file name below [`Self::tree`]; `None` for a
    /// module without code. No system call once its block is decoded, as hot ones are before
    /// imports begin, except where a process is alone.
    ///
    /// # Errors
    /// [`Error::Entry`] if a cold block is corrupt or finds no room.
    pub fn code(&self, module: u32) -> Result<Option<&[u8]>> {
        let found = self.index.module(module).ok_or(Error::Row {
            what: "module",
            row: module,
        })?;
        let Some((at, len)) = code::place(module, &found, self.prefix.len()) else {
            return Ok(None);
        };
        let block = self.blocks.of_module(module).map(|block| block.entry);
        let block = block.ok_or(Error::Row {
            what: "code block of module",
            row: module,
        })?;
        if !self.site.state().entry(block) {
            self.put(&[block])?;
        }
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        Ok(self.code.as_ref().get(at..at.saturating_add(len)))
    }

    /// What is done on demand is counted there from now on; the first job stays.
    pub fn set_job(&self, job: Arc<Job>) {
        let _ = self.job.set(job);
    }

    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    /// Compressed bytes are read from there, unless that was settled before.
    pub(crate) fn set_stored(&self, stored: Stored) {
        let _ = self.stored.set(stored);
    }

    /// To be called in a forked child before anything else: it takes a share of the lock for
    /// itself, so that neither its end nor its parent's takes the other's away.
    ///
    /// # Errors
    /// [`Error::Image`] or [`Error::Io`] if the image has vanished.
    pub fn forked(&self) -> Result<()> {
        self.process.store(std::process::id(), Ordering::Relaxed);
        if self.left.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.site.relock()
    }

    /// This process needs the image no longer: code that is mapped stays readable, nothing more is
    /// placed. The last one out removes the image, unless it is kept. Drop does it too, once; in a
    /// forked child that never called [`Self::forked`] it does nothing.
    pub fn leave(&self) {
        let ours = self.process.load(Ordering::Relaxed) == std::process::id();
        if ours && !self.left.swap(true, Ordering::Relaxed) {
            self.site.leave();
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.leave();
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dir = self.dir();
        formatter
            .debug_struct("Image")
            .field("dir", &dir)
            .finish_non_exhaustive()
    }
}
