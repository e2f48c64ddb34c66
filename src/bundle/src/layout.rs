//! The zip structures of a bundle, as a function of its index alone.
//!
//! Local headers, central directory and end records follow APPNOTE 6.3.10 with every free choice
//! fixed: times 1980-01-01, names in UTF-8, no data descriptors, zip64 fields only where a number
//! needs them. So `verify` can recompute each byte that isn't an entry's own.

use crate::{
    Index, limits,
    record::{Entry, Kind},
};

/// Zip method 0.
pub const STORED: u8 = 0;
/// Zip method 93: one zstd frame.
pub const ZSTD: u8 = 93;

const DATE: u16 = 0x21;
const UTF8_FLAG: u16 = 1 << 11;
const LARGE: u64 = u32::MAX as u64;

/// What a header says of an entry.
struct Fields<'a> {
    name: &'a [u8],
    mode: u32,
    method: u8,
    crc32: u32,
    stored: u64,
    size: u64,
    header: u64,
}

impl Fields<'_> {
    /// Version needed: 6.3 for zstd, 4.5 for zip64, 2.0 otherwise.
    fn version(&self, large: bool) -> u16 {
        if self.method == ZSTD {
            63
        } else if large {
            45
        } else {
            20
        }
    }

    fn large_sizes(&self) -> bool {
        self.stored >= LARGE || self.size >= LARGE
    }

    fn common(&self, out: &mut Vec<u8>, version: u16, extra: usize) {
        for half in [version, UTF8_FLAG, u16::from(self.method), 0, DATE] {
            out.extend(half.to_le_bytes());
        }
        out.extend(self.crc32.to_le_bytes());
        for size in [self.stored, self.size] {
            let word = if self.large_sizes() {
                u32::MAX
            } else {
                size as u32
            };
            out.extend(word.to_le_bytes());
        }
        out.extend((self.name.len() as u16).to_le_bytes());
        out.extend((extra as u16).to_le_bytes());
    }

    fn local(&self) -> Vec<u8> {
        let large = self.large_sizes();
        let mut out = Vec::with_capacity(50 + self.name.len());
        out.extend(b"PK\x03\x04");
        self.common(&mut out, self.version(large), if large { 20 } else { 0 });
        out.extend(self.name);
        if large {
            out.extend([1, 0, 16, 0]);
            out.extend(self.size.to_le_bytes());
            out.extend(self.stored.to_le_bytes());
        }
        out
    }

    fn central(&self, out: &mut Vec<u8>) {
        let mut extra = Vec::new();
        if self.large_sizes() {
            extra.extend(self.size.to_le_bytes());
            extra.extend(self.stored.to_le_bytes());
        }
        if self.header >= LARGE {
            extra.extend(self.header.to_le_bytes());
        }
        let extra_len = if extra.is_empty() { 0 } else { extra.len() + 4 };
        let version = self.version(!extra.is_empty());
        out.extend(b"PK\x01\x02");
        // Made on Unix (3), by version 6.3: readers then take the mode from the upper half below.
        out.extend([63, 3]);
        self.common(out, version, extra_len);
        out.extend([0; 6]);
        let folder = u32::from(self.mode & 0o170_000 == 0o040_000) << 4;
        out.extend((self.mode << 16 | folder).to_le_bytes());
        out.extend((self.header.min(LARGE) as u32).to_le_bytes());
        out.extend(self.name);
        if !extra.is_empty() {
            out.extend(1_u16.to_le_bytes());
            out.extend((extra.len() as u16).to_le_bytes());
            out.extend(extra);
        }
    }
}

fn index_fields<B: AsRef<[u8]>>(index: &Index<B>) -> Fields<'_> {
    let len = index.header().index_len;
    Fields {
        name: limits::INDEX_NAME.as_bytes(),
        mode: 0o100_644,
        method: STORED,
        crc32: crc32fast::hash(index.bytes()),
        stored: len,
        size: len,
        header: 0,
    }
}

fn entry_fields<'a, B: AsRef<[u8]>>(index: &'a Index<B>, entry: &Entry) -> Fields<'a> {
    Fields {
        name: index.text(entry.name),
        mode: entry.mode,
        method: entry.method,
        crc32: entry.crc32,
        stored: entry.stored,
        size: entry.size,
        header: entry.offset.saturating_sub(local_header_len(entry)),
    }
}

/// The bytes before the index: its local header.
#[must_use]
pub fn index_header<B: AsRef<[u8]>>(index: &Index<B>) -> Vec<u8> {
    index_fields(index).local()
}

/// Offset of the index in the file; an index is smaller than 4 GiB, so this is the same for all.
#[must_use]
pub fn index_offset() -> u64 {
    30 + limits::INDEX_NAME.len() as u64
}

/// Offset of the first entry's local header: the end of the index.
#[must_use]
pub fn first_header<B: AsRef<[u8]>>(index: &Index<B>) -> u64 {
    index_offset() + index.header().index_len
}

/// The bytes before an entry's own.
#[must_use]
pub fn local_header<B: AsRef<[u8]>>(index: &Index<B>, entry: &Entry) -> Vec<u8> {
    entry_fields(index, entry).local()
}

/// Length of [`local_header`].
#[must_use]
pub fn local_header_len(entry: &Entry) -> u64 {
    header_len(entry.name.len, entry.stored, entry.size)
}

/// Length of a local header for a name of this length and these sizes.
#[must_use]
pub fn header_len(name: u32, stored: u64, size: u64) -> u64 {
    30 + u64::from(name)
        + if stored >= LARGE || size >= LARGE {
            20
        } else {
            0
        }
}

/// The bytes after the last entry: central directory and end records.
#[must_use]
pub fn directory<B: AsRef<[u8]>>(index: &Index<B>) -> Vec<u8> {
    let mut out = Vec::new();
    index_fields(index).central(&mut out);
    for entry in (0..index.entries()).filter_map(|row| index.entry(row)) {
        entry_fields(index, &entry).central(&mut out);
    }
    let (start, len) = (index.header().directory, out.len() as u64);
    let count = u64::from(index.entries()) + 1;
    if needs_zip64(count, len, start) {
        out.extend(b"PK\x06\x06");
        out.extend(44_u64.to_le_bytes());
        out.extend([63, 3, 45, 0]);
        out.extend([0; 8]);
        for word in [count, count, len, start] {
            out.extend(word.to_le_bytes());
        }
        out.extend(b"PK\x06\x07");
        out.extend([0; 4]);
        out.extend((start + len).to_le_bytes());
        out.extend(1_u32.to_le_bytes());
    }
    out.extend(b"PK\x05\x06");
    out.extend([0; 4]);
    for _ in 0..2 {
        out.extend((count.min(0xffff) as u16).to_le_bytes());
    }
    out.extend((len.min(LARGE) as u32).to_le_bytes());
    out.extend((start.min(LARGE) as u32).to_le_bytes());
    out.extend([0; 2]);
    out
}

/// Length of [`directory`].
#[must_use]
pub fn directory_len<B: AsRef<[u8]>>(index: &Index<B>) -> u64 {
    let central = |name: u64, large: bool, header: u64| {
        let extra = if large { 16 } else { 0 } + if header >= LARGE { 8 } else { 0 };
        46 + name + if extra > 0 { extra + 4 } else { 0 }
    };
    let mut len = central(limits::INDEX_NAME.len() as u64, false, 0);
    for entry in (0..index.entries()).filter_map(|row| index.entry(row)) {
        let large = entry.stored >= LARGE || entry.size >= LARGE;
        let header = entry.offset.saturating_sub(local_header_len(&entry));
        len += central(u64::from(entry.name.len), large, header);
    }
    let count = u64::from(index.entries()) + 1;
    let zip64 = if needs_zip64(count, len, index.header().directory) {
        76
    } else {
        0
    };
    len + zip64 + 22
}

fn needs_zip64(count: u64, len: u64, start: u64) -> bool {
    count >= 0xffff || len >= LARGE || start >= LARGE
}

/// The zip name of an entry: its escaped path, with a `/` at the end for an empty folder.
#[must_use]
pub fn zip_name(path: &[u8], kind: Kind) -> String {
    let mut name = crate::name::escape(path);
    if kind == Kind::Folder {
        name.push('/');
    }
    name
}
