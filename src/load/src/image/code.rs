//! Decoded code blocks to the code segment: each module's file name becomes its path in the tree.
//!
//! The tree's path is put in once per node, while decoding, not by every rank: the code of module
//! `k` lies `k` prefixes further in the segment than in the packed code.

use pybundle_bundle::{
    Index,
    limits::NONE,
    record::{Block, Module},
};

use crate::{Error, Result};

const FLAG_REF: u8 = 0x80;

/// Offset and length of a module's code in the segment; `None` for a module without code.
pub(crate) fn place(row: u32, module: &Module, prefix: usize) -> Option<(u64, usize)> {
    if module.code_at == u64::MAX {
        return None;
    }
    let at = module.code_at + u64::from(row) * prefix as u64;
    let put_in = if module.filename_at == NONE {
        0
    } else {
        prefix
    };
    Some((at, module.code_len as usize + put_in))
}

/// Bytes of the code segment.
pub(crate) fn segment_len(code_len: u64, modules: u64, prefix: usize) -> u64 {
    code_len + modules * prefix as u64
}

/// Offset and length of a block in the segment.
pub(crate) fn block_place(block: &Block, packed: u64, prefix: usize) -> (u64, usize) {
    let at = block.at + u64::from(block.first_module) * prefix as u64;
    (at, packed as usize + block.modules as usize * prefix)
}

/// Writes a block's modules to `out`, with `prefix` in front of each file name.
///
/// # Errors
/// [`Error::Bundle`] if a module's file name is not where the index says.
pub(crate) fn spread<B: AsRef<[u8]>>(
    index: &Index<B>,
    block: &Block,
    packed: &[u8],
    prefix: &[u8],
    out: &mut [u8],
) -> Result<()> {
    let mut out = Cursor { out, at: 0 };
    for row in block.first_module..block.first_module + block.modules {
        let module = index.module(row);
        let code = module.and_then(|module| {
            let at = usize::try_from(module.code_at.checked_sub(block.at)?).ok()?;
            Some((
                module,
                packed.get(at..at.checked_add(module.code_len as usize)?)?,
            ))
        });
        let (module, code) = code.ok_or_else(|| wrong(row, "its code lies outside its block"))?;
        if module.filename_at == NONE {
            out.put(code);
            out.zeros(prefix.len());
            continue;
        }
        let at = module.filename_at as usize;
        let record = code
            .get(at..at + 5)
            .ok_or_else(|| wrong(row, "its file name lies outside"))?;
        if !matches!(record[0] & !FLAG_REF, b't' | b'u') {
            return Err(wrong(row, "its file name is not where the index says"));
        }
        let len = u32::from_le_bytes([record[1], record[2], record[3], record[4]]);
        if len as usize > code.len() - at - 5 {
            return Err(wrong(row, "its file name is longer than its code"));
        }
        let longer = u32::try_from(prefix.len())
            .ok()
            .and_then(|more| len.checked_add(more));
        let longer = longer.ok_or_else(|| wrong(row, "its file name is too long"))?;
        out.put(&code[..=at]);
        out.put(&longer.to_le_bytes());
        out.put(prefix);
        out.put(&code[at + 5..]);
    }
    Ok(())
}

/// A slice being filled; what doesn't fit is left out, and lengths are checked by the caller.
struct Cursor<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Cursor<'_> {
    fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.out.get_mut(self.at..self.at + bytes.len()) {
            room.copy_from_slice(bytes);
        }
        self.at += bytes.len();
    }

    fn zeros(&mut self, count: usize) {
        if let Some(room) = self.out.get_mut(self.at..self.at + count) {
            room.fill(0);
        }
        self.at += count;
    }
}

fn wrong(row: u32, why: &str) -> Error {
    let name = format!("module {row}");
    pybundle_bundle::Error::Decode {
        name,
        what: why.to_owned(),
    }
    .into()
}
