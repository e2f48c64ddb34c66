//! Draft and stored bytes to file, in one pass: entries are appended in the draft's order, the
//! index is written into its place at the end.

use std::io::{Seek, SeekFrom, Write};

use crate::{
    Draft, Error, Identity, Manifest, Result, layout, limits,
    record::Entry,
    tables::{Placed, Tables},
};

/// The stored form of one entry's content.
#[derive(Clone, Debug)]
pub struct Packed {
    method: u8,
    crc32: u32,
    size: u64,
    sha256: [u8; 32],
    bytes: Vec<u8>,
}

impl Packed {
    /// Stores the content as it is.
    #[must_use]
    pub fn stored(content: Vec<u8>) -> Self {
        Self {
            method: layout::STORED,
            crc32: crc32fast::hash(&content),
            size: content.len() as u64,
            sha256: crate::digest(&content),
            bytes: content,
        }
    }

    /// The content of an entry of another bundle, as it is stored there; `stored` has been checked.
    #[must_use]
    pub fn taken(entry: &Entry, stored: Vec<u8>) -> Self {
        Self {
            method: entry.method,
            crc32: entry.crc32,
            size: entry.size,
            sha256: entry.sha256,
            bytes: stored,
        }
    }

    /// Stored bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Is nothing stored?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Compresses contents, one zstd frame each, with parameters that depend on the level alone.
pub struct Compressor(zstd::bulk::Compressor<'static>);

impl Compressor {
    /// A compressor for a zstd level.
    ///
    /// # Errors
    /// [`Error::Io`] if zstd refuses the level.
    pub fn new(level: i32) -> Result<Self> {
        let mut inner = zstd::bulk::Compressor::new(level)?;
        inner.include_checksum(false)?;
        inner.include_contentsize(true)?;
        Ok(Self(inner))
    }

    /// One frame, or the content itself where a frame would not be smaller.
    ///
    /// # Errors
    /// [`Error::Io`] if zstd fails.
    pub fn pack(&mut self, content: &[u8]) -> Result<Packed> {
        let frame = self.0.compress(content)?;
        if frame.len() >= content.len() {
            return Ok(Packed::stored(content.to_vec()));
        }
        Ok(Packed {
            method: layout::ZSTD,
            crc32: crc32fast::hash(content),
            size: content.len() as u64,
            sha256: crate::digest(&frame),
            bytes: frame,
        })
    }
}

/// Writes a bundle.
pub struct Writer<W> {
    out: W,
    tables: Tables,
    stored: Vec<Placed>,
    end: u64,
}

/// What was written.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Names the bundle.
    pub identity: Identity,
    /// Bytes of the file.
    pub file_len: u64,
    /// Bytes of the index.
    pub index_len: u64,
}

impl<W: Write + Seek> Writer<W> {
    /// Starts a bundle: leaves room for the index and stores the manifest.
    ///
    /// # Errors
    /// [`Error::Draft`] for a draft that contradicts itself, [`Error::Name`], [`Error::Io`].
    pub fn new(mut out: W, draft: &Draft, manifest: &Manifest) -> Result<Self> {
        let tables = draft.tables()?;
        let start = layout::index_offset() + tables.index_len();
        out.seek(SeekFrom::Start(start))?;
        let stored = Vec::with_capacity(tables.len());
        let mut writer = Self {
            out,
            tables,
            stored,
            end: start,
        };
        writer.append(&Packed::stored(manifest.to_bytes()?))?;
        Ok(writer)
    }

    /// Stores the next entry of the draft.
    ///
    /// # Errors
    /// [`Error::Draft`] if the draft has no further entry, [`Error::Io`].
    pub fn append(&mut self, packed: &Packed) -> Result<()> {
        let position = self.stored.len();
        let name_len = self
            .tables
            .name_len(position)
            .ok_or_else(|| Error::draft("more entries than the draft has"))?;
        let mut placed = Placed {
            method: packed.method,
            crc32: packed.crc32,
            len: packed.len(),
            size: packed.size,
            offset: 0,
            sha256: packed.sha256,
        };
        placed.offset = self.end + layout::header_len(name_len, placed.len, placed.size);
        // The header's bytes come with the index, at the end: here is only its room.
        self.out.seek(SeekFrom::Start(placed.offset))?;
        self.out.write_all(&packed.bytes)?;
        self.end = placed.offset + placed.len;
        self.stored.push(placed);
        Ok(())
    }

    /// Writes headers, directory and index.
    ///
    /// # Errors
    /// [`Error::Draft`] if entries of the draft are missing, [`Error::Index`] if the draft broke a
    /// rule of the format, [`Error::Io`].
    pub fn finish(mut self) -> Result<(W, Written)> {
        if self.stored.len() != self.tables.len() {
            return Err(Error::draft(format!(
                "entries: expected {}, got {}",
                self.tables.len(),
                self.stored.len()
            )));
        }
        let index = self.tables.index(&self.stored)?;
        if index.header().index_len > limits::INDEX_BYTES {
            return Err(Error::draft("index is too large"));
        }
        index.validate()?;
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&layout::index_header(&index))?;
        self.out.write_all(index.bytes())?;
        for entry in (0..index.entries()).filter_map(|row| index.entry(row)) {
            let header = layout::local_header(&index, &entry);
            self.out
                .seek(SeekFrom::Start(entry.offset - header.len() as u64))?;
            self.out.write_all(&header)?;
        }
        self.out.seek(SeekFrom::Start(index.header().directory))?;
        self.out.write_all(&layout::directory(&index))?;
        self.out.flush()?;
        let written = Written {
            identity: index.identity(),
            file_len: index.header().file_len,
            index_len: index.header().index_len,
        };
        Ok((self.out, written))
    }
}
