//! Entries into place: claimed, read, verified, decoded.
//!
//! Entries are worked on in batches, so that a thousand small files don't cost a thousand claims.
//! Whoever waits for somebody else's batch sleeps on the image's progress and looks again now and
//! then: if the owner has died, the kernel has freed its claim, and the batch is started anew.

use std::{fs::File, os::unix::fs::FileExt, path::Path};

use pybundle_bundle::{
    Index, Manifest,
    reader::Decoder,
    record::{Block, Entry, Kind},
};

use super::{
    claims::Claims,
    code, interpreter,
    segment::Mapping,
    site::{self, Site},
    state::State,
    stored::{Scratch, Stored},
    tree::{Content, IN_PLACE, Tree},
};
use crate::{Error, Result, error::io_at};

/// A batch ends with the entry that takes it over this many stored or decoded bytes.
const BATCH_BYTES: u64 = 512 << 10;

/// A batch has no more entries than this.
const BATCH_ENTRIES: usize = 64;

/// Working memory kept from one entry to the next.
const KEPT: usize = 8 << 20;

/// Working memory kept while there is nothing to do.
const RESTING: usize = 256 << 10;

/// Entries that are claimed together, in file order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Their rows, ascending.
    pub(crate) rows: Vec<u32>,
    /// Offset in the bundle after the last of them.
    pub(crate) end: u64,
    /// Decoded bytes.
    pub(crate) bytes: u64,
}

impl Batch {
    fn range(&self) -> (u32, u32) {
        let first = self.rows.first().copied().unwrap_or(0);
        (first, self.rows.last().copied().unwrap_or(first))
    }
}

/// Batches of these rows, which are ascending.
pub(crate) fn batches<B: AsRef<[u8]>>(
    index: &Index<B>,
    rows: impl IntoIterator<Item = u32>,
) -> Vec<Batch> {
    let mut all = Vec::new();
    let mut batch = Batch::default();
    let mut stored = 0;
    for row in rows {
        let Some(entry) = index.entry(row) else {
            continue;
        };
        batch.rows.push(row);
        batch.end = entry.offset + entry.stored;
        batch.bytes += entry.size;
        stored += entry.stored;
        if batch.bytes.max(stored) >= BATCH_BYTES || batch.rows.len() == BATCH_ENTRIES {
            all.push(std::mem::take(&mut batch));
            stored = 0;
        }
    }
    if !batch.rows.is_empty() {
        all.push(batch);
    }
    all
}

/// What an entry needs to get into place.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The image.
    pub(crate) site: &'a Site,
    /// Its index.
    pub(crate) index: &'a Index<Mapping>,
    /// Its manifest.
    pub(crate) manifest: &'a Manifest,
    /// Its blocks by entry.
    pub(crate) blocks: &'a Blocks,
    /// The bundle's path, for messages.
    pub(crate) bundle: &'a Path,
    /// Put before every module's file name.
    pub(crate) prefix: &'a [u8],
    /// Where compressed bytes come from.
    pub(crate) stored: &'a Stored,
}

/// The code blocks, found by module and by entry.
#[derive(Debug)]
pub(crate) struct Blocks(Vec<Block>);

impl Blocks {
    /// All blocks of an index.
    pub(crate) fn of<B: AsRef<[u8]>>(index: &Index<B>) -> Self {
        Self(
            (0..index.blocks())
                .filter_map(|row| index.block(row))
                .collect(),
        )
    }

    /// The block that holds a module's code.
    pub(crate) fn of_module(&self, module: u32) -> Option<&Block> {
        let after = self.0.partition_point(|block| block.first_module <= module);
        self.0.get(after.checked_sub(1)?)
    }

    /// The entries of all.
    pub(crate) fn entries(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().map(|block| block.entry)
    }

    /// The block of this entry.
    pub(crate) fn of_entry(&self, entry: u32) -> Option<&Block> {
        self.0.iter().find(|block| block.entry == entry)
    }
}

/// What a worker has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// Entries put into place.
    pub(crate) entries: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Those that are files of the tree.
    pub(crate) files: u64,
    /// Bytes read from the bundle.
    pub(crate) read: u64,
}

/// Outcome of [`Worker::batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claimed {
    /// All its entries are in place.
    Done,
    /// Somebody else is at it.
    Taken,
}

/// One thread's tools.
pub(crate) struct Worker {
    process: u32,
    claims: Claims,
    tree: Tree,
    decoder: Decoder,
    code: Option<File>,
    packed: Scratch,
    content: Scratch,
    spread: Scratch,
    /// What it has done since it was made or asked.
    pub(crate) done: Done,
}

impl Worker {
    /// Tools for an image.
    pub(crate) fn open(site: &Site) -> Result<Self> {
        Ok(Self {
            process: std::process::id(),
            claims: Claims::open(&site.dir().join(site::CLAIMS))?,
            tree: Tree::open(site.tree())?,
            decoder: Decoder::new()?,
            code: None,
            packed: Scratch::default(),
            content: Scratch::default(),
            spread: Scratch::default(),
            done: Done::default(),
        })
    }

    /// Gives back what is only needed while there is work.
    pub(crate) fn rest(&mut self) {
        for scratch in [&mut self.packed, &mut self.content, &mut self.spread] {
            scratch.shrink(RESTING);
        }
        self.tree.rest();
        self.code = None;
    }

    /// Was it opened by this process? A forked child would share its claims with its parent.
    pub(crate) fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }

    /// Claims a batch and puts what is missing of it into place.
    ///
    /// # Errors
    /// [`Error::Entry`].
    pub(crate) fn batch(&mut self, place: &Place<'_>, batch: &Batch) -> Result<Claimed> {
        let state = place.site.state();
        if batch.rows.iter().all(|&row| state.entry(row)) {
            return Ok(Claimed::Done);
        }
        let (first, last) = batch.range();
        if !self.claims.try_claim(first, last)? {
            return Ok(Claimed::Taken);
        }
        let result = batch
            .rows
            .iter()
            .try_for_each(|&row| self.entry(place, row));
        self.claims.free(first, last);
        state.step();
        result.map(|()| Claimed::Done)
    }

    /// Makes a folder and those above it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn make_folder<B: AsRef<[u8]>>(
        &mut self,
        index: &Index<B>,
        state: &State,
        row: u32,
    ) -> Result<()> {
        self.tree.make_folder(index, state, row)
    }

    fn entry(&mut self, place: &Place<'_>, row: u32) -> Result<()> {
        let state = place.site.state();
        if state.entry(row) {
            return Ok(());
        }
        let entry = place
            .index
            .entry(row)
            .ok_or(Error::Row { what: "entry", row })?;
        self.put(place, row, &entry)
            .map_err(|source| Error::Entry {
                entry: place.index.entry_name(&entry),
                bundle: place.bundle.to_owned(),
                source: Box::new(source),
            })?;
        state.set_entry(row);
        self.done.entries += 1;
        self.done.bytes += entry.size;
        self.done.read += place.stored.cost(&entry);
        self.done.files += u64::from(entry.kind != Kind::Code as u8);
        for scratch in [&mut self.packed, &mut self.content, &mut self.spread] {
            scratch.shrink(KEPT);
        }
        Ok(())
    }

    fn put(&mut self, place: &Place<'_>, row: u32, entry: &Entry) -> Result<()> {
        let (index, state) = (place.index, place.site.state());
        let packed = place.stored.read(index, entry, &mut self.packed)?;
        let size = usize::try_from(entry.size).unwrap_or(usize::MAX);
        let decoder = &mut self.decoder;
        if entry.kind == Kind::File as u8 && entry.size >= IN_PLACE {
            let mut fill = |out: &mut [u8]| Ok(decoder.decode(index, entry, packed, out)?);
            return self
                .tree
                .file(index, state, row, entry, Content::InPlace(&mut fill));
        }
        let content = self.content.room(size)?;
        decoder.decode(index, entry, packed, content)?;
        match Kind::from_number(entry.kind) {
            Some(Kind::File) if index.text(entry.path) == interpreter::CONFIG => {
                let config = interpreter::relocated(content, place.site.tree(), place.manifest);
                self.tree
                    .file(index, state, row, entry, Content::Bytes(&config))
            }
            Some(Kind::File) => self
                .tree
                .file(index, state, row, entry, Content::Bytes(content)),
            Some(Kind::Link) => self.tree.link(index, state, entry, content),
            Some(Kind::Folder) => self.tree.empty_folder(index, state, entry),
            Some(Kind::Code) => {
                let block = place.blocks.of_entry(row).ok_or(Error::Row {
                    what: "code block",
                    row,
                })?;
                let (at, len) = code::block_place(block, entry.size, place.prefix.len());
                let out = self.spread.room(len)?;
                code::spread(index, block, content, place.prefix, out)?;
                let path = place.site.dir().join(site::CODE);
                if self.code.is_none() {
                    self.code = Some(site::open_file(&path)?);
                }
                // By a system call and not through a mapping: no room is an error code.
                let write = |file: &File| file.write_all_at(out, at);
                self.code
                    .as_ref()
                    .map_or(Ok(()), write)
                    .map_err(|error| io_at("cannot write", &path, error))
            }
            Some(Kind::Manifest) | None => Err(Error::Row {
                what: "placeable entry",
                row,
            }),
        }
    }
}
