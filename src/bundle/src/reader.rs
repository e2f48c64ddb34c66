//! File to head, entry and verdict. Nothing that is read here is believed before it is checked.

use std::{
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use fs_err::File;

use crate::{
    Error, Identity, Index, Manifest, Result, digest,
    index::Header,
    layout, limits,
    record::{Entry, Kind},
};

/// The start of a bundle: all that is needed to plan a load.
pub struct Head {
    /// Validated.
    pub index: Index<Vec<u8>>,
    /// Validated against the index.
    pub manifest: Manifest,
    /// The manifest as stored.
    pub manifest_bytes: Vec<u8>,
    /// Names the bundle.
    pub identity: Identity,
}

impl Head {
    /// Reads and checks index and manifest from the start of a bundle. The file is left positioned
    /// after the manifest.
    ///
    /// # Errors
    /// [`Error::NotABundle`], [`Error::Version`], [`Error::Length`] if the file is shorter or longer
    /// than the index says, [`Error::Index`], [`Error::Structure`], [`Error::Digest`],
    /// [`Error::Manifest`].
    pub fn read(file: &mut File) -> Result<Self> {
        let path = file.path().to_owned();
        let got = file.metadata()?.len();
        let start = layout::index_offset() as usize;
        let mut first = Vec::with_capacity(start + limits::HEADER);
        file.by_ref()
            .take((start + limits::HEADER) as u64)
            .read_to_end(&mut first)?;
        if !starts_like_a_bundle(&first) {
            return Err(Error::NotABundle { path });
        }
        let short = |expected| Error::Length {
            path: path.clone(),
            expected,
            got,
        };
        let Some(header_bytes) = first.get(start..start + limits::HEADER) else {
            return Err(short((start + limits::HEADER) as u64));
        };
        let header = Header::from_bytes(header_bytes)?;
        if header.index_len > limits::INDEX_BYTES || header.index_len < limits::HEADER as u64 {
            return Err(Error::index(format!("index length: {}", header.index_len)));
        }
        if header.file_len != got {
            return Err(short(header.file_len));
        }
        let mut bytes = vec![0; header.index_len as usize];
        bytes[..limits::HEADER].copy_from_slice(header_bytes);
        file.read_exact(&mut bytes[limits::HEADER..])?;
        let index = Index::open(bytes)?;
        // The zip's CRC-32 of the index is the one check that the index can't make itself.
        compare(0, &layout::index_header(&index), &first[..start])?;
        index.validate()?;
        let manifest_bytes = read_manifest(file, &index)?;
        let manifest = Manifest::from_bytes(&manifest_bytes)?;
        let identity = index.identity();
        Ok(Self {
            index,
            manifest,
            manifest_bytes,
            identity,
        })
    }
}

fn starts_like_a_bundle(first: &[u8]) -> bool {
    let name = 30..30 + limits::INDEX_NAME.len();
    let magic = name.end..name.end + limits::MAGIC.len();
    let like = |range: std::ops::Range<usize>, expected: &[u8]| {
        let got = first.get(range.start.min(first.len())..range.end.min(first.len()));
        got.is_some_and(|got| expected.starts_with(got))
    };
    first.len() > 4
        && like(0..4, b"PK\x03\x04")
        && like(name, limits::INDEX_NAME.as_bytes())
        && like(magic, &limits::MAGIC)
}

fn read_manifest(file: &mut File, index: &Index<Vec<u8>>) -> Result<Vec<u8>> {
    let entry = index.entry(0).ok_or_else(|| Error::index("no manifest"))?;
    let mut header = vec![0; layout::local_header_len(&entry) as usize];
    file.read_exact(&mut header)?;
    compare(
        layout::first_header(index),
        &layout::local_header(index, &entry),
        &header,
    )?;
    let mut bytes = vec![0; entry.stored as usize];
    file.read_exact(&mut bytes)?;
    check(index, &entry, &bytes)?;
    Ok(bytes)
}

fn compare(offset: u64, expected: &[u8], got: &[u8]) -> Result<()> {
    match expected
        .iter()
        .zip(got)
        .position(|(expected, got)| expected != got)
    {
        Some(at) => Err(Error::Structure {
            offset: offset + at as u64,
        }),
        None => Ok(()),
    }
}

/// Checks the stored bytes of an entry against the index.
///
/// # Errors
/// [`Error::Digest`].
pub fn check<B: AsRef<[u8]>>(index: &Index<B>, entry: &Entry, stored: &[u8]) -> Result<()> {
    let got = digest(stored);
    if got == entry.sha256 {
        return Ok(());
    }
    Err(Error::Digest {
        name: index.entry_name(entry),
        expected: Identity(entry.sha256).to_string(),
        got: Identity(got).to_string(),
    })
}

/// Checks what follows the last entry of a bundle, up to its end.
///
/// # Errors
/// [`Error::Structure`] with the offset of the first difference, [`Error::Io`].
pub fn check_directory<B: AsRef<[u8]>>(file: &mut File, index: &Index<B>) -> Result<()> {
    let offset = index.header().directory;
    let mut directory = Vec::new();
    file.seek(SeekFrom::Start(offset))?;
    file.read_to_end(&mut directory)?;
    let expected = layout::directory(index);
    if directory.len() != expected.len() {
        return Err(Error::Structure { offset });
    }
    compare(offset, &expected, &directory)
}

/// Decodes entries. Holds zstd's working memory: keep one per thread.
pub struct Decoder(zstd::bulk::Decompressor<'static>);

impl Decoder {
    /// A decoder.
    ///
    /// # Errors
    /// [`Error::Io`] if there is no memory for it.
    pub fn new() -> Result<Self> {
        Ok(Self(zstd::bulk::Decompressor::new()?))
    }

    /// Decodes stored bytes that were [`check`]ed, into exactly `out`.
    ///
    /// # Errors
    /// [`Error::Decode`] if they are not a frame of exactly that size.
    pub fn decode<B: AsRef<[u8]>>(
        &mut self,
        index: &Index<B>,
        entry: &Entry,
        stored: &[u8],
        out: &mut [u8],
    ) -> Result<()> {
        let fail = |what: String| {
            Err(Error::Decode {
                name: index.entry_name(entry),
                what,
            })
        };
        if out.len() as u64 != entry.size {
            return fail(format!(
                "room: expected {} bytes, got {}",
                entry.size,
                out.len()
            ));
        }
        if entry.method == layout::STORED {
            if stored.len() != out.len() {
                return fail(format!(
                    "size: expected {} bytes, got {}",
                    out.len(),
                    stored.len()
                ));
            }
            out.copy_from_slice(stored);
            return Ok(());
        }
        match self.0.decompress_to_buffer(stored, out) {
            Ok(size) if size == out.len() => Ok(()),
            Ok(size) => fail(format!("size: expected {} bytes, got {size}", out.len())),
            Err(error) => fail(error.to_string()),
        }
    }
}

/// Compares the bytes between the entries with the index, as a bundle is read from start to end.
pub struct Structure {
    next: u32,
}

impl Structure {
    /// A check that starts at the first entry after the manifest.
    #[must_use]
    pub fn new() -> Self {
        Self { next: 1 }
    }

    /// Checks a piece that starts at `offset` of the file; pieces come in order.
    ///
    /// # Errors
    /// [`Error::Structure`] with the offset of the first difference.
    pub fn check<B: AsRef<[u8]>>(
        &mut self,
        index: &Index<B>,
        offset: u64,
        piece: &[u8],
    ) -> Result<()> {
        let end = offset + piece.len() as u64;
        while let Some(entry) = index.entry(self.next) {
            let start = entry.offset - layout::local_header_len(&entry);
            if start >= end {
                return Ok(());
            }
            compare_part(start, &layout::local_header(index, &entry), offset, piece)?;
            if entry.offset > end {
                return Ok(());
            }
            self.next += 1;
        }
        if end > index.header().directory {
            compare_part(
                index.header().directory,
                &layout::directory(index),
                offset,
                piece,
            )?;
        }
        Ok(())
    }
}

impl Default for Structure {
    fn default() -> Self {
        Self::new()
    }
}

fn compare_part(at: u64, expected: &[u8], offset: u64, piece: &[u8]) -> Result<()> {
    let from = at.max(offset);
    let to = (at + expected.len() as u64).min(offset + piece.len() as u64);
    if from >= to {
        return Ok(());
    }
    let expected = &expected[(from - at) as usize..(to - at) as usize];
    compare(
        from,
        expected,
        &piece[(from - offset) as usize..(to - offset) as usize],
    )
}

/// What a whole bundle was found to hold.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// Its identity.
    pub identity: Identity,
    /// Entries checked.
    pub entries: u32,
    /// Bytes of the file.
    pub file_len: u64,
    /// Bytes decoded.
    pub decoded: u64,
}

/// Checks every byte of a bundle: structure, digests, contents, and that a reader of plain zip
/// files sees the same entries. `progress` is told how many bytes of the file are done.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify(path: &Path, mut progress: impl FnMut(u64)) -> Result<Verdict> {
    let mut file = File::open(path)?;
    let head = Head::read(&mut file)?;
    let index = &head.index;
    let mut decoder = Decoder::new()?;
    let (mut stored, mut content, mut decoded) = (Vec::new(), Vec::new(), 0);
    let mut header = Vec::new();
    for row in 1..index.entries() {
        let Some(entry) = index.entry(row) else { break };
        header.resize(layout::local_header_len(&entry) as usize, 0);
        file.read_exact(&mut header)?;
        compare(
            entry.offset - header.len() as u64,
            &layout::local_header(index, &entry),
            &header,
        )?;
        stored.resize(entry.stored as usize, 0);
        file.read_exact(&mut stored)?;
        check(index, &entry, &stored)?;
        content.clear();
        content.resize(entry.size as usize, 0);
        decoder.decode(index, &entry, &stored, &mut content)?;
        let crc32 = crc32fast::hash(&content);
        if crc32 != entry.crc32 {
            return Err(Error::Decode {
                name: index.entry_name(&entry),
                what: format!("CRC-32: expected {:08x}, got {crc32:08x}", entry.crc32),
            });
        }
        decoded += entry.size;
        progress(entry.offset + entry.stored);
    }
    check_directory(&mut file, index)?;
    read_as_zip(&mut file, index)?;
    progress(index.header().file_len);
    Ok(Verdict {
        identity: head.identity,
        entries: index.entries(),
        file_len: index.header().file_len,
        decoded,
    })
}

/// Reads the directory with a zip library that knows nothing of indexes.
fn read_as_zip(file: &mut File, index: &Index<Vec<u8>>) -> Result<()> {
    let unreadable = |what: String| Error::Index {
        what: format!("zip reader disagrees: {what}"),
    };
    file.seek(SeekFrom::Start(0))?;
    let mut archive =
        zip::ZipArchive::new(&mut *file).map_err(|error| unreadable(error.to_string()))?;
    if archive.len() != index.entries() as usize + 1 {
        return Err(unreadable(format!(
            "{} entries for {}",
            archive.len(),
            index.entries() + 1
        )));
    }
    for row in 0..index.entries() {
        let Some(entry) = index.entry(row) else { break };
        let seen = archive
            .by_index_raw(row as usize + 1)
            .map_err(|error| unreadable(error.to_string()))?;
        let same = seen.name_raw() == index.text(entry.name)
            && seen.data_start() == Some(entry.offset)
            && seen.compressed_size() == entry.stored
            && seen.size() == entry.size
            && seen.crc32() == entry.crc32
            && seen.unix_mode() == Some(entry.mode)
            && seen.is_dir() == (entry.kind == Kind::Folder as u8);
        if !same {
            return Err(unreadable(index.entry_name(&entry)));
        }
    }
    Ok(())
}
