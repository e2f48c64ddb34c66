//! The bundle that a packing replaces, and what of it is still true.
//!
//! Equal content gives equal stored bytes: an entry depends on its content and the level, a module's
//! code on its source and the Python. So what has not changed is copied from the old
//! bundle, and the new one is the same as if it had been packed afresh. A file is unchanged if its
//! [stamp](Stamps) is, or else if its content is what the old entry decodes to.

use std::{
    os::unix::fs::FileExt as _,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use fs_err as fs;
use pybundle_bundle::{
    Head, Index, limits,
    manifest::Python,
    reader::{self, Decoder},
    record::{self, Entry, Kind},
    writer::Packed,
};
use serde::Serialize;

use crate::{
    Request, Result, content,
    libraries::Read,
    modules::Module,
    scan::{Found, Tree, What},
    stamps::Stamps,
};

/// What was copied from the old bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Files and code blocks.
    pub entries: u64,
    /// Their bytes as stored.
    pub bytes: u64,
}

/// The code block of the old bundle that was decoded last, and its row: modules come in their order.
pub(crate) type Open = Option<(u32, Vec<u8>)>;

/// A bundle that is going to be replaced.
pub(crate) struct Previous {
    file: fs::File,
    index: Index<Vec<u8>>,
    stamps: Option<Stamps>,
    /// Its code is for the same Python.
    same_python: bool,
    entries: AtomicU64,
    bytes: AtomicU64,
}

impl Previous {
    /// The bundle at `path`, if anything in it can be used: not if there is none, or if another
    /// version or another level wrote it.
    pub(crate) fn open(path: &Path, request: &Request, python: &Python) -> Option<Self> {
        let mut file = fs::File::open(path).ok()?;
        let Head {
            index,
            manifest,
            identity,
            ..
        } = Head::read(&mut file).ok()?;
        if manifest.writer != crate::WRITER || manifest.options.level != request.level {
            return None;
        }
        let cache = request.cache.as_ref().filter(|_| !request.check);
        let stamps = cache.and_then(|cache| Stamps::load(cache, path, &identity));
        let same = |of: fn(&Python) -> &String| of(&manifest.python) == of(python);
        Some(Self {
            file,
            index,
            stamps,
            same_python: same(|python| &python.version_text) && same(|python| &python.magic),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    /// What has been copied.
    pub(crate) fn kept(&self) -> Kept {
        Kept {
            entries: self.entries.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// What an unchanged file says of itself as a library.
    pub(crate) fn elf(&self, found: &Found) -> Option<&Read> {
        self.stamps.as_ref()?.elf(found)
    }

    /// The old stored form of a file, if it is still right; else its content where that had to be
    /// read. `relocated` files depend on more than their own content: they are always read.
    ///
    /// # Errors
    /// `read`'s.
    pub(crate) fn file(
        &self,
        found: &Found,
        relocated: bool,
        decoder: &mut Decoder,
        read: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Either> {
        let Some(entry) = self.entry(found) else {
            return Ok(Either::Neither);
        };
        if !relocated && self.is_settled(found) {
            return Ok(self.stored(&entry).map_or(Either::Neither, Either::Stored));
        }
        let content = read()?;
        let stored = self.equals(&entry, &content, decoder);
        Ok(stored.map_or(Either::Content(content), Either::Stored))
    }

    /// The code of a module whose source has not changed, and where its file name stands.
    ///
    /// # Errors
    /// [`crate::Error`] for a source that changed since it was found, or can't be read.
    pub(crate) fn code(
        &self,
        tree: &Tree,
        module: &Module,
        decoder: &mut Decoder,
        open: &mut Open,
    ) -> Result<Option<(Vec<u8>, Option<u32>)>> {
        let (Some((row, old)), Some(held)) = (self.module(tree, module), tree.get(module.content))
        else {
            return Ok(None);
        };
        if !self.is_same(held, decoder)? {
            return Ok(None);
        }
        let code = self.block(row).and_then(|block| {
            let at = old.code_at.checked_sub(block.at)? as usize;
            let code = self.decode(block.entry, decoder, open)?.get(at..)?;
            code.get(..old.code_len as usize)
        });
        let filename_at = (old.filename_at != limits::NONE).then_some(old.filename_at);
        Ok(code.map(|code| (code.to_vec(), filename_at)))
    }

    /// The old stored form of a code block that starts with `first`, if its content is the same.
    pub(crate) fn block_of(
        &self,
        tree: &Tree,
        first: &Module,
        content: &[u8],
        decoder: &mut Decoder,
        open: &mut Open,
    ) -> Option<Packed> {
        let (row, _) = self.module(tree, first)?;
        let entry = self.block(row)?.entry;
        let same = self.decode(entry, decoder, open)? == content;
        same.then(|| self.stored(&self.index.entry(entry)?))?
    }

    /// A module in the old bundle, if it has code there for this Python.
    fn module(&self, tree: &Tree, module: &Module) -> Option<(u32, record::Module)> {
        let folder = self.index.find_folder(&module.folder)?;
        let (row, old) = self.index.find_module(folder, &module.name)?;
        let (file, _) = self.row(&tree.get(module.file)?.path)?;
        // What a link led to then isn't known.
        let same = self.same_python
            && module.content == module.file
            && old.kind == module.kind as u8
            && (old.package != limits::NONE) == module.package
            && old.file == file
            && old.code_at != u64::MAX;
        same.then_some((row, old))
    }

    /// The block that holds the code of a row: blocks are in the order of their modules.
    fn block(&self, row: u32) -> Option<record::Block> {
        let (mut low, mut high) = (0, self.index.blocks());
        while low < high {
            let middle = low.midpoint(high);
            if self.index.block(middle)?.first_module <= row {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let block = self.index.block(low.checked_sub(1)?)?;
        (row - block.first_module < block.modules).then_some(block)
    }

    /// The content of a code block, decoded unless it was the last one that was.
    fn decode<'a>(&self, row: u32, decoder: &mut Decoder, open: &'a mut Open) -> Option<&'a [u8]> {
        if open.as_ref().is_none_or(|(last, _)| *last != row) {
            let entry = self.index.entry(row)?;
            let stored = self.read(&entry)?;
            let mut content = vec![0; entry.size as usize];
            let decoded = decoder.decode(&self.index, &entry, &stored, &mut content);
            *open = Some((row, content)).filter(|_| decoded.is_ok());
        }
        open.as_ref().map(|(_, content)| &content[..])
    }

    /// Is the content what it was?
    fn is_same(&self, found: &Found, decoder: &mut Decoder) -> Result<bool> {
        let Some(entry) = self.entry(found) else {
            return Ok(false);
        };
        if self.is_settled(found) {
            return Ok(true);
        }
        let content = content::read(found)?;
        Ok(self.decoded(&entry, &content, decoder).is_some())
    }

    /// Does the stamp say that nothing has changed?
    fn is_settled(&self, found: &Found) -> bool {
        let stamps = self.stamps.as_ref();
        stamps.is_some_and(|stamps| stamps.is_same(found))
    }

    fn row(&self, path: &[u8]) -> Option<(u32, Entry)> {
        match self.index.find(path)? {
            record::Node::Entry(row) => Some((row, self.index.entry(row)?)),
            record::Node::Folder(_) => None,
        }
    }

    /// The entry of a file that has the same size.
    fn entry(&self, found: &Found) -> Option<Entry> {
        let What::File(stamp) = found.what else {
            return None;
        };
        let (_, entry) = self.row(&found.path)?;
        (entry.kind == Kind::File as u8 && entry.size == stamp.size).then_some(entry)
    }

    /// Its stored bytes; `None` if they are damaged, which is no reason not to pack.
    fn read(&self, entry: &Entry) -> Option<Vec<u8>> {
        let mut stored = vec![0; entry.stored as usize];
        self.file
            .file()
            .read_exact_at(&mut stored, entry.offset)
            .ok()?;
        reader::check(&self.index, entry, &stored).ok()?;
        Some(stored)
    }

    fn stored(&self, entry: &Entry) -> Option<Packed> {
        self.read(entry).map(|stored| self.take(entry, stored))
    }

    /// The stored form of an entry that holds this content.
    fn equals(&self, entry: &Entry, content: &[u8], decoder: &mut Decoder) -> Option<Packed> {
        let stored = self.decoded(entry, content, decoder)?;
        Some(self.take(entry, stored))
    }

    /// The stored bytes of an entry that holds this content.
    fn decoded(&self, entry: &Entry, content: &[u8], decoder: &mut Decoder) -> Option<Vec<u8>> {
        if entry.size != content.len() as u64 || entry.crc32 != crc32fast::hash(content) {
            return None;
        }
        let stored = self.read(entry)?;
        let mut old = vec![0; content.len()];
        decoder.decode(&self.index, entry, &stored, &mut old).ok()?;
        (old == content).then_some(stored)
    }

    fn take(&self, entry: &Entry, stored: Vec<u8>) -> Packed {
        self.entries.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(entry.stored, Ordering::Relaxed);
        Packed::taken(entry, stored)
    }
}

/// What is known of a file's content.
pub(crate) enum Either {
    /// The old bundle has it.
    Stored(Packed),
    /// It is another one, and was read.
    Content(Vec<u8>),
    /// Nothing.
    Neither,
}
