//! Reading files that must not have changed since they were found; compressing what was read.

use std::{
    io::{self, Read as _},
    path::Path,
};

use fs_err as fs;
use pybundle_bundle::writer::{Compressor, Packed};

use crate::{
    Error, Result,
    scan::{Found, Stamp, What},
};

/// libarchive (3.6.2 tried) doesn't see the end of a zstd entry that fills its buffer to the brim.
const LIBARCHIVE_BUFFER: usize = 128 << 10;

/// An entry's content as it is stored.
///
/// # Errors
/// [`Error::Bundle`] if zstd fails.
pub(crate) fn compress(compressor: &mut Compressor, content: Vec<u8>) -> Result<Packed> {
    if content.len().is_multiple_of(LIBARCHIVE_BUFFER) {
        return Ok(Packed::stored(content));
    }
    Ok(compressor.pack(&content)?)
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
            modified: (0, 0),
            size: 4,
        };
        let text = read(&found(later)).unwrap_err().to_string();
        assert!(text.contains(": modified: `"), "{text}");
        fs::remove_file(&path).unwrap();
        let text = read(&found(stamp)).unwrap_err().to_string();
        assert!(text.contains(": vanished: `"), "{text}");
    }
}
