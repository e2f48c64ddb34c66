//! The bundle's file: written under a temporary name beside its place, then renamed.

use std::{
    ffi::OsString,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use fs_err as fs;
use pybundle_bundle::{
    Draft, Head, Manifest, Writer,
    writer::{Compressor, Written},
};

use crate::{
    Error, Phase, Progress, Result, code::Block, content, draft::Source, pipeline, scan::Tree,
};

/// A place for a bundle.
pub(crate) struct Target {
    /// Where it goes: absolute, symlinks resolved.
    path: PathBuf,
}

impl Target {
    /// Checks that a bundle can be written to `path`: its folder exists, and what is there, if
    /// anything, is a bundle (whole or not) or an empty file.
    ///
    /// # Errors
    /// [`Error::Occupied`], [`Error::Io`].
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let occupied = || Error::Occupied {
            path: path.to_owned(),
        };
        match fs::File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let name = path.file_name().ok_or_else(occupied)?;
                let folder = path
                    .parent()
                    .filter(|folder| !folder.as_os_str().is_empty());
                let folder = fs::canonicalize(folder.unwrap_or(Path::new(".")))?;
                return Ok(Self {
                    path: folder.join(name),
                });
            }
            Err(error) => return Err(error.into()),
            Ok(mut file) => {
                let metadata = file.metadata()?;
                if !metadata.is_file() {
                    return Err(occupied());
                }
                if metadata.len() > 0
                    && let Err(pybundle_bundle::Error::NotABundle { .. }) = Head::read(&mut file)
                {
                    return Err(occupied());
                }
            }
        }
        Ok(Self {
            path: fs::canonicalize(path)?,
        })
    }

    /// Where the bundle goes.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the temporary file.
    fn create(&self) -> io::Result<(fs::File, Temporary)> {
        let mut name = OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(format!(".{}.partial", std::process::id()));
        let path = self.path.with_file_name(name);
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        Ok((file, Temporary(Some(path))))
    }
}

/// Removes the file unless it was put in place.
struct Temporary(Option<PathBuf>);

impl Temporary {
    fn put(mut self, place: &Path) -> io::Result<()> {
        if let Some(path) = &self.0 {
            fs::rename(path, place)?;
            self.0 = None;
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // The error that is being reported is the one that matters.
            let _ = fs::remove_file(path);
        }
    }
}

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
    let (file, temporary) = target.create()?;
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
            let bytes = content.tree.get(position).map(content::read);
            let packed = content::compress(compressor, bytes.transpose()?.unwrap_or_default())?;
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
    let (_, written) = writer.finish()?;
    temporary.put(target.path())?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bundles_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        assert!(Target::new(&path).is_ok());
        fs::write(&path, b"").unwrap();
        assert!(Target::new(&path).is_ok());
        fs::write(&path, b"something else").unwrap();
        assert!(matches!(Target::new(&path), Err(Error::Occupied { .. })));
        assert!(matches!(
            Target::new(folder.path()),
            Err(Error::Occupied { .. })
        ));
        assert!(matches!(
            Target::new(&folder.path().join("no/x")),
            Err(Error::Io(_))
        ));
    }

    #[test]
    fn a_temporary_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::new(&folder.path().join("x")).unwrap();
        let (_, temporary) = target.create().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(temporary);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
