//! The bundle's bytes: many threads read and compress, one writes in order.

use std::sync::atomic::{AtomicU64, Ordering};

use pybundle_bundle::{
    Draft, Manifest, Writer, pipeline,
    writer::{Packed, Written},
};

use crate::{
    Error, Phase, Progress, Result,
    code::Block,
    content::{Codec, Reader},
    draft::Source,
    previous::{Either, Previous},
    target::Target,
};

/// What is to be written.
pub(crate) struct Content<'a> {
    /// The tables.
    pub(crate) draft: &'a Draft,
    /// The manifest.
    pub(crate) manifest: &'a Manifest,
    /// Where the content of each entry is.
    pub(crate) sources: &'a [Source],
    /// Code blocks, compressed.
    pub(crate) blocks: &'a [Block],
    /// Reads what is no code block.
    pub(crate) reader: &'a Reader<'a>,
    /// The bundle that is replaced.
    pub(crate) previous: Option<&'a Previous>,
}

impl Content<'_> {
    /// What is at a position of the tree, as it is stored: copied from the old bundle if that has
    /// it.
    fn pack(&self, position: usize, codec: &mut Codec) -> Result<Packed> {
        let reader = self.reader;
        let kept = match (self.previous, reader.found(position)) {
            (Some(previous), Some(found)) => {
                let relocated = reader.is_relocated(position);
                let read = || reader.read(position);
                previous.file(found, relocated, &mut codec.decoder, read)?
            }
            _ => Either::Neither,
        };
        match kept {
            Either::Stored(packed) => Ok(packed),
            Either::Content(content) => codec.compress(content),
            Either::Neither => codec.compress(reader.read(position)?),
        }
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
        Source::Tree(position) => content.reader.size(position),
        Source::Block(_) => 0,
    };
    let total: u64 = content.sources.iter().map(size).sum();
    let done = AtomicU64::new(0);
    pipeline::run(
        jobs,
        content.sources,
        // The content and what it is compressed to are in memory together.
        |source| size(source) * 2,
        || Codec::new(level),
        |codec, source| {
            let Source::Tree(position) = *source else {
                return Ok((None, 0));
            };
            let packed = content.pack(position, codec)?;
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
