//! Reading files that must not have changed since they were found; compressing what was read.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io::{self, Read as _},
    path::Path,
    sync::{Mutex, PoisonError},
};

use fs_err as fs;
use pybundle_bundle::{
    reader::Decoder,
    writer::{Compressor, Packed},
};

use crate::{
    Error, Result,
    elf::relocate,
    groups::Groups,
    interpreter::Own,
    scan::{Found, Stamp, Tree, What},
};

/// libarchive (3.6.2 tried) doesn't see the end of a zstd entry that fills its buffer to the brim.
const LIBARCHIVE_BUFFER: usize = 128 << 10;

/// One thread's zstd.
pub(crate) struct Codec {
    compressor: Compressor,
    /// For what an older bundle holds.
    pub(crate) decoder: Decoder,
}

impl Codec {
    /// For a level.
    ///
    /// # Errors
    /// [`Error::Bundle`] if zstd has no memory.
    pub(crate) fn new(level: i32) -> Result<Self> {
        Ok(Self {
            compressor: Compressor::new(level)?,
            decoder: Decoder::new()?,
        })
    }

    /// An entry's content as it is stored.
    ///
    /// # Errors
    /// [`Error::Bundle`] if zstd fails.
    pub(crate) fn compress(&mut self, content: Vec<u8>) -> Result<Packed> {
        if content.len().is_multiple_of(LIBARCHIVE_BUFFER) {
            return Ok(Packed::stored(content));
        }
        Ok(self.compressor.pack(&content)?)
    }
}

/// Reads what is in a tree as a bundle holds it: the interpreter's own files are rewritten.
pub(crate) struct Reader<'a> {
    tree: &'a Tree,
    own: &'a Own,
    /// Positions of files that may name the prefix they were built for.
    relocated: HashSet<usize>,
    /// Those that go on naming it.
    stuck: Mutex<BTreeSet<usize>>,
}

impl<'a> Reader<'a> {
    /// Reads from `tree`, whose ELF files have these needs.
    pub(crate) fn new(
        tree: &'a Tree,
        own: &'a Own,
        groups: &Groups,
        needs: &BTreeMap<usize, Vec<usize>>,
    ) -> Self {
        Self {
            tree,
            own,
            relocated: own.built_for_prefix(tree, groups, needs.keys().copied()),
            stuck: Mutex::default(),
        }
    }

    /// Bytes of the file at a position; 0 for anything else. Rewriting doesn't change it.
    pub(crate) fn size(&self, position: usize) -> u64 {
        self.tree.size(position)
    }

    /// The content of what is at a position, as it is packed.
    ///
    /// # Errors
    /// Those of [`read`].
    pub(crate) fn read(&self, position: usize) -> Result<Vec<u8>> {
        let Some(found) = self.tree.get(position) else {
            return Ok(Vec::new());
        };
        let mut bytes = read(found)?;
        if self.is_relocated(position)
            && let Some((file, prefix)) = self.own.place(&found.source)
            && let first = self.own.library_folder(&found.path)
            && !relocate(&mut bytes, file, prefix, first.as_deref())
        {
            let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
            stuck.insert(position);
        }
        Ok(bytes)
    }

    /// What is at a position.
    pub(crate) fn found(&self, position: usize) -> Option<&Found> {
        self.tree.get(position)
    }

    /// Is it one of the files that may name the prefix they were built for?
    pub(crate) fn is_relocated(&self, position: usize) -> bool {
        self.relocated.contains(&position)
    }

    /// Positions of the files that go on naming it, as far as they were read.
    pub(crate) fn stuck(&self) -> BTreeSet<usize> {
        let stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        stuck.clone()
    }
}

/// What an entry of the bundle holds: a file's bytes, a link's text, nothing for a folder.
///
/// # Errors
/// [`Error::Changed`] if the file is not the one that was found, [`Error::Io`].
pub(crate) fn read(found: &Found) -> Result<Vec<u8>> {
    match &found.what {
        What::File(stamp) => read_file(&found.source, *stamp),
        What::Link(text) => Ok(text.clone()),
        What::Folder => Ok(Vec::new()),
    }
}

fn read_file(path: &Path, expected: Stamp) -> Result<Vec<u8>> {
    let changed = |what: String| Error::Changed {
        path: path.to_owned(),
        what,
    };
    let mut file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(changed("vanished".to_owned()));
        }
        file => file?,
    };
    let same = |got: Stamp| match describe(expected, got) {
        None => Ok(()),
        Some(what) => Err(changed(what)),
    };
    same(Stamp::of(&file.metadata()?))?;
    let mut bytes = Vec::with_capacity(expected.size as usize + 1);
    // One byte more than expected shows that the file grew.
    file.by_ref()
        .take(expected.size + 1)
        .read_to_end(&mut bytes)?;
    same(Stamp {
        size: bytes.len() as u64,
        ..expected
    })?;
    same(Stamp::of(&file.metadata()?))?;
    Ok(bytes)
}

fn describe(expected: Stamp, got: Stamp) -> Option<String> {
    if got.size != expected.size {
        return Some(format!(
            "expected {} bytes, got {}",
            expected.size, got.size
        ));
    }
    (got.modified != expected.modified).then(|| "modified".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, b"abc").unwrap();
        let found = |stamp| Found {
            path: b"x".to_vec(),
            source: path.clone(),
            mode: 0,
            what: What::File(stamp),
        };
        let stamp = Stamp::of(&fs::metadata(&path).unwrap());
        assert_eq!(read(&found(stamp)).unwrap(), b"abc");
        fs::write(&path, b"abcd").unwrap();
        let text = read(&found(stamp)).unwrap_err().to_string();
        assert!(
            text.contains("expected 3 bytes, got 4") && text.contains("/x`"),
            "{text}"
        );
        let later = Stamp {
            size: 4,
            ..Stamp::default()
        };
        let text = read(&found(later)).unwrap_err().to_string();
        assert!(text.contains(": modified: `"), "{text}");
        fs::remove_file(&path).unwrap();
        let text = read(&found(stamp)).unwrap_err().to_string();
        assert!(text.contains(": vanished: `"), "{text}");
    }
}
