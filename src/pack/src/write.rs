//! The bundle's bytes: many threads read and compress, one writes in order.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use pybundle_bundle::{
    Draft, Manifest, Writer,
    writer::{Compressor, Written},
};

use crate::{
    Error, Phase, Progress, Result, code::Block, content, draft::Source, elf::relocate,
    interpreter::Own, pipeline, scan::Tree, target::Target,
};

/// What is to be written.
pub(crate) struct Content<'a> {
    /// The tables.
    pub(crate) draft: &'a Draft,
    /// The manifest.
    pub(crate) manifest: &'a Manifest,
    /// Where the content of each entry is.
    pub(crate) sources: &'a [Source],
    /// Files, links, folders.
    pub(crate) tree: &'a Tree,
    /// Code blocks, compressed.
    pub(crate) blocks: &'a [Block],
    /// The interpreter's own files.
    pub(crate) own: &'a Own,
    /// Positions of files that may name the prefix they were built for.
    pub(crate) relocated: &'a HashSet<usize>,
    /// Those that go on naming it.
    pub(crate) stuck: &'a Mutex<BTreeSet<usize>>,
}

impl Content<'_> {
    /// The content of what is at a position of the tree, as it is packed.
    fn read(&self, position: usize) -> Result<Vec<u8>> {
        let Some(found) = self.tree.get(position) else {
            return Ok(Vec::new());
        };
        let mut bytes = content::read(found)?;
        if self.relocated.contains(&position)
            && let Some((file, prefix)) = self.own.place(&found.source)
            && let first = self.own.library_folder(&found.path)
            && !relocate(&mut bytes, file, prefix, first.as_deref())
        {
            let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
            stuck.insert(position);
        }
        Ok(bytes)
    }
}

/// Writes a bundle: `jobs` threads read and compress, this one writes.
///
/// # Errors
/// [`Error`]; the target is then as it was.
pub(crate) fn write(
    content: &Content<'_>,
    target: &Target,
    level: i32,
    jobs: usize,
    progress: &dyn Progress,
) -> Result<Written> {
    let (file, partial) = target.create()?;
    let mut writer = Writer::new(file, content.draft, content.manifest)?;
    let size = |source: &Source| match *source {
        Source::Tree(position) => content.tree.size(position),
        Source::Block(_) => 0,
    };
    let total: u64 = content.sources.iter().map(size).sum();
    let done = AtomicU64::new(0);
    pipeline::run(
        jobs,
        content.sources,
        // The content and what it is compressed to are in memory together.
        |source| size(source) * 2,
        || Ok(Compressor::new(level)?),
        |compressor, source| {
            let Source::Tree(position) = *source else {
                return Ok((None, 0));
            };
            let packed = content::compress(compressor, content.read(position)?)?;
            let done = done.fetch_add(size(source), Ordering::Relaxed) + size(source);
            progress.update(Phase::Write, done, Some(total));
            let held = packed.len();
            Ok((Some(packed), held))
        },
        |number, packed| {
            let block = match content.sources[number] {
                Source::Block(block) => content.blocks.get(block).map(|block| &block.packed),
                Source::Tree(_) => None,
            };
            match packed.as_ref().or(block) {
                Some(packed) => Ok::<_, Error>(writer.append(packed)?),
                None => Ok(()),
            }
        },
    )?;
    let (file, written) = writer.finish()?;
    partial.put(&file, target.path())?;
    Ok(written)
}
