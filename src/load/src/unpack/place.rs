//! Entries into an environment: read, verified, decoded, written.

use std::{
    ffi::OsStr,
    fs::File,
    io::Write,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::Path,
};

use nix::{
    fcntl::{OFlag, openat},
    sys::stat::{Mode, fchmod},
    unistd::symlinkat,
};
use pybundle_bundle::{
    Head, Index, Manifest, limits, name,
    reader::Decoder,
    record::{Block, Entry, Kind, Module, ModuleKind, Node},
};

use super::{Unpacked, target::Target};
use crate::{
    Error, Result,
    error::io_at,
    image::{
        code, interpreter,
        stored::{Scratch, Stored},
        tree::{Chain, create_new, make_and_enter, settle, umask},
        work::Blocks,
    },
};

/// Working memory kept from one entry to the next.
const KEPT: usize = 1 << 20;

/// Permissions of folders, before the umask: the bundle has none of folders that hold something.
const FOLDER_MODE: u32 = 0o777;

/// Beside sources, for bytecode.
const PYCACHE: &str = "__pycache__";

/// What entries need.
pub(super) struct Plan<'a> {
    /// Validated.
    pub(super) index: Index<Vec<u8>>,
    /// The index's.
    manifest: Manifest,
    /// The index's.
    blocks: Blocks,
    /// The bundle.
    stored: Stored,
    /// Its path, for messages.
    bundle: &'a Path,
    /// Where everything is made.
    folder: &'a Path,
    /// Where it will lie.
    place: &'a Path,
    /// That place and a slash: comes before every file name in bytecode.
    prefix: Vec<u8>,
    /// Starts every bytecode file.
    header: [u8; 16],
}

impl<'a> Plan<'a> {
    /// For a bundle whose head was read from `file`, and a folder in which everything is made.
    pub(super) fn new(
        (bundle, file): (&'a Path, File),
        head: Head,
        target: &'a Target,
        folder: &'a Path,
    ) -> Self {
        Self {
            blocks: Blocks::of(&head.index),
            stored: Stored::bundle(file, bundle),
            header: interpreter::header(&head.manifest),
            prefix: target.prefix(),
            place: target.path(),
            folder,
            index: head.index,
            manifest: head.manifest,
            bundle,
        }
    }
}

/// Memory that an entry takes while it is worked on.
pub(super) fn cost(entry: &Entry) -> u64 {
    let content = if entry.kind == Kind::Code as u8 {
        // Once as packed, once with its file names.
        entry.size.saturating_mul(2)
    } else {
        entry.size
    };
    entry.stored.saturating_add(content)
}

/// One thread's tools.
pub(super) struct Worker<'a> {
    plan: &'a Plan<'a>,
    out: Out<'a>,
    decoder: Decoder,
    packed: Scratch,
    content: Scratch,
    spread: Scratch,
}

/// What writes: apart from the memory that holds what is written.
struct Out<'a> {
    plan: &'a Plan<'a>,
    chain: Chain,
    umask: Mode,
}

impl<'a> Worker<'a> {
    /// Tools for an environment.
    pub(super) fn new(plan: &'a Plan<'a>) -> Result<Self> {
        Ok(Self {
            plan,
            out: Out {
                plan,
                chain: Chain::open(plan.folder, FOLDER_MODE)?,
                umask: umask(),
            },
            decoder: Decoder::new()?,
            packed: Scratch::default(),
            content: Scratch::default(),
            spread: Scratch::default(),
        })
    }

    /// Puts an entry into place.
    ///
    /// # Errors
    /// [`Error::Entry`].
    pub(super) fn entry(&mut self, row: u32, entry: &Entry) -> Result<Unpacked> {
        let put = self.put(row, entry);
        for scratch in [&mut self.packed, &mut self.content, &mut self.spread] {
            scratch.shrink(KEPT);
        }
        put.map_err(|source| Error::Entry {
            entry: self.plan.index.entry_name(entry),
            bundle: self.plan.bundle.to_owned(),
            source: Box::new(source),
        })
    }

    fn put(&mut self, row: u32, entry: &Entry) -> Result<Unpacked> {
        let plan = self.plan;
        let index = &plan.index;
        let stored = plan.stored.read(index, entry, &mut self.packed)?;
        let size = usize::try_from(entry.size).unwrap_or(usize::MAX);
        let content = self.content.room(size)?;
        self.decoder.decode(index, entry, stored, content)?;
        let mut unpacked = Unpacked::default();
        match Kind::from_number(entry.kind) {
            Some(Kind::File) => {
                let config;
                let content = if index.text(entry.path) == interpreter::CONFIG {
                    config = interpreter::relocated(content, plan.place, &plan.manifest);
                    &config
                } else {
                    &*content
                };
                self.out.file(entry, content)?;
                (unpacked.files, unpacked.bytes) = (1, content.len() as u64);
            }
            Some(Kind::Link) => {
                self.out.link(entry, content)?;
                unpacked.links = 1;
            }
            Some(Kind::Folder) => self.out.empty_folder(entry)?,
            Some(Kind::Code) => {
                let what = "code block";
                let block = plan.blocks.of_entry(row).ok_or(Error::Row { what, row })?;
                let (at, len) = code::block_place(block, entry.size, plan.prefix.len());
                let spread = self.spread.room(len)?;
                code::spread(index, block, content, &plan.prefix, spread)?;
                unpacked.modules = self.out.bytecode(block, at, spread)?;
            }
            Some(Kind::Manifest) | None => {
                let what = "environment's entry";
                return Err(Error::Row { what, row });
            }
        }
        Ok(unpacked)
    }
}

impl Out<'_> {
    fn file(&mut self, entry: &Entry, content: &[u8]) -> Result<()> {
        let path = self.plan.index.text(entry.path);
        let full = self.chain.path(path);
        let mode = Mode::from_bits_truncate(entry.mode & 0o777);
        let stripped = mode.intersects(self.umask);
        let folder = self.chain.folder(&self.plan.index, None, entry.folder)?;
        let last = OsStr::from_bytes(name::split(path).1);
        let mut file =
            create_new(folder, last, mode).map_err(|error| io_at("cannot make", &full, error))?;
        let written = file.write_all(content);
        written.map_err(|error| io_at("cannot write", &full, error))?;
        settle(&file, mode, stripped).map_err(|(what, error)| io_at(what, &full, error))
    }

    fn link(&mut self, entry: &Entry, target: &[u8]) -> Result<()> {
        let path = self.plan.index.text(entry.path);
        let full = self.chain.path(path);
        let folder = self.chain.folder(&self.plan.index, None, entry.folder)?;
        let last = OsStr::from_bytes(name::split(path).1);
        symlinkat(OsStr::from_bytes(target), folder, last)
            .map_err(|error| io_at("cannot make", &full, error))
    }

    fn empty_folder(&mut self, entry: &Entry) -> Result<()> {
        let path = self.plan.index.text(entry.path);
        let full = self.chain.path(path);
        let folder = self.chain.folder(&self.plan.index, None, entry.folder)?;
        let last = OsStr::from_bytes(name::split(path).1);
        let failed = |(what, error)| io_at(what, &full, error);
        let made = make_and_enter(folder, last, Mode::S_IRWXU).map_err(failed)?;
        // Only an open folder takes a mode, whatever is at its path by then.
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(made.as_fd(), ".", flags, Mode::empty())
            .and_then(|open| fchmod(open, Mode::from_bits_truncate(entry.mode & 0o777)))
            .map_err(|error| failed(("cannot set the mode of", error)))
    }

    /// Writes the bytecode of a block's modules; `spread` is the block as it lies at `at` of a code
    /// segment. Gives how many were written.
    fn bytecode(&mut self, block: &Block, at: u64, spread: &[u8]) -> Result<u64> {
        let mut written = 0;
        for row in block.first_module..block.first_module + block.modules {
            let code = self.plan.index.module(row).and_then(|module| {
                let (start, len) = code::place(row, &module, self.plan.prefix.len())?;
                let start = usize::try_from(start.checked_sub(at)?).ok()?;
                Some((module, spread.get(start..start.checked_add(len)?)?))
            });
            let what = "module";
            let (module, code) = code.ok_or(Error::Row { what, row })?;
            if module.kind == ModuleKind::Source as u8 {
                written += u64::from(self.cached(&module, code)?);
            }
        }
        Ok(written)
    }

    /// Writes a module's bytecode beside its source, as a file that Python doesn't compare with it
    /// (PEP 552). Not where the environment has something of its own, or Python would look for none.
    fn cached(&mut self, module: &Module, code: &[u8]) -> Result<bool> {
        let index = &self.plan.index;
        let what = "entry";
        let row = module.file;
        let source = index.entry(row).ok_or(Error::Row { what, row })?;
        let path = Path::new(OsStr::from_bytes(index.text(source.path)));
        let Some(file) = interpreter::cached(&self.plan.manifest, path) else {
            return Ok(false);
        };
        let file = file.as_os_str().as_bytes();
        let (folder, last) = name::split(file);
        if last.len() > limits::NAME_BYTES
            || index.find(file).is_some()
            || matches!(index.find(folder), Some(Node::Entry(_)))
        {
            return Ok(false);
        }
        let full = self.chain.path(file);
        let beside = self.chain.folder(index, None, source.folder)?;
        let made = make_and_enter(
            beside,
            OsStr::new(PYCACHE),
            Mode::from_bits_truncate(FOLDER_MODE),
        );
        let made = made.map_err(|(what, error)| io_at(what, &full, error))?;
        // Who can't read the source can't read this; a link says nothing about it.
        let mode = Mode::from_bits_truncate(source.mode & 0o644 | 0o600);
        let mut file = create_new(made.as_fd(), OsStr::from_bytes(last), mode)
            .map_err(|error| io_at("cannot make", &full, error))?;
        let written = file.write_all(&self.plan.header);
        let written = written.and_then(|()| file.write_all(code));
        written.map_err(|error| io_at("cannot write", &full, error))?;
        // As far as the umask lets: Python would do the same.
        settle(&file, mode, false).map_err(|(what, error)| io_at(what, &full, error))?;
        Ok(true)
    }
}
