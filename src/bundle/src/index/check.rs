//! The rules that every row of an index keeps, checked once per bundle.

use super::{EMPTY, Index, Section};
use crate::{
    Error, Result, layout, limits, name,
    record::{self, Entry, Kind, Module, ModuleKind, Need, Node, Text, some},
};

/// Checks everything; see [`Index::validate`].
pub(super) fn all<B: AsRef<[u8]>>(index: &Index<B>) -> Result<()> {
    counts(index)?;
    entries(index)?;
    folders(index)?;
    blocks(index)?;
    modules(index)?;
    groups(index)?;
    needs(index)?;
    slots(index)
}

fn fail<T>(what: impl Into<String>) -> Result<T> {
    Err(Error::index(what))
}

fn counts<B: AsRef<[u8]>>(index: &Index<B>) -> Result<()> {
    if index.header().index_len > limits::INDEX_BYTES {
        return fail(format!(
            "index is too large: {} bytes",
            index.header().index_len
        ));
    }
    for (section, needed) in [
        (Section::ModuleSlots, index.modules()),
        (Section::PathSlots, index.entries() + index.folders()),
    ] {
        let slots = index.rows::<u32>(section);
        if slots != slot_count(needed) {
            return fail(format!("hash table has {slots} slots for {needed} rows"));
        }
    }
    Ok(())
}

/// Slots of a hash table for this many rows: at most half of them used.
pub(crate) fn slot_count(rows: u32) -> u32 {
    if rows == 0 {
        0
    } else {
        (rows * 2).next_power_of_two()
    }
}

fn text<B: AsRef<[u8]>>(index: &Index<B>, text: Text) -> Result<&[u8]> {
    let bytes = index.text(text);
    if bytes.len() == text.len as usize {
        Ok(bytes)
    } else {
        fail("text lies outside the strings")
    }
}

fn entries<B: AsRef<[u8]>>(index: &Index<B>) -> Result<()> {
    let first = layout::first_header(index);
    let mut end = first;
    let mut total: u64 = 0;
    for row in 0..index.entries() {
        let Some(entry) = index.entry(row) else {
            return fail(format!("entry {row} is missing"));
        };
        let Some(kind) = Kind::from_number(entry.kind) else {
            return fail(format!("entry {row} has unknown kind {}", entry.kind));
        };
        if (row == 0) != (kind == Kind::Manifest) {
            return fail(format!("entry {row} has kind {kind:?}"));
        }
        let (name_bytes, path) = (text(index, entry.name)?, text(index, entry.path)?);
        name::check(path)?;
        let zip_name = name_bytes
            .strip_suffix(b"/")
            .filter(|_| kind == Kind::Folder)
            .unwrap_or(name_bytes);
        if zip_name != name::escape(path).as_bytes() {
            return fail(format!("name of entry {row} is not that of its path"));
        }
        let reserved = path.starts_with(limits::RESERVED_FOLDER.as_bytes())
            && !path.starts_with(limits::ROOTS_FOLDER.as_bytes());
        if reserved != matches!(kind, Kind::Code | Kind::Manifest) {
            return fail(format!(
                "entry {row} of kind {kind:?} lies at `{}`",
                name::escape(path)
            ));
        }
        if entry.mode & !0o777 != file_type(kind) {
            return fail(format!("entry {row} has mode {:o}", entry.mode));
        }
        check_size(row, kind, &entry)?;
        end += layout::local_header_len(&entry);
        if entry.offset != end {
            return fail(format!(
                "entry {row} starts at {}, expected {end}",
                entry.offset
            ));
        }
        let sum = end.checked_add(entry.stored);
        let Some(sum) = sum.filter(|&sum| sum <= index.header().directory) else {
            return fail(format!("entry {row} ends after the directory"));
        };
        end = sum;
        total = total.saturating_add(entry.size);
        if some(entry.group).is_some_and(|group| group >= index.groups()) {
            return fail(format!("entry {row} names group {}", entry.group));
        }
        let folder = index
            .folder(entry.folder)
            .map(|folder| index.text(folder.path));
        if kind != Kind::Manifest && kind != Kind::Code && folder != Some(name::split(path).0) {
            return fail(format!("entry {row} names folder {}", entry.folder));
        }
    }
    if end != index.header().directory {
        return fail(format!(
            "entries end at {end}, directory is at {}",
            index.header().directory
        ));
    }
    if index.header().hot_end > end || total == u64::MAX {
        return fail("sizes don't add up");
    }
    let expected = end + layout::directory_len(index);
    if index.header().file_len != expected {
        return fail(format!(
            "file length: expected {expected}, got {}",
            index.header().file_len
        ));
    }
    Ok(())
}

/// The type bits of a kind's mode.
pub(crate) fn file_type(kind: Kind) -> u32 {
    match kind {
        Kind::File | Kind::Code | Kind::Manifest => 0o100_000,
        Kind::Link => 0o120_000,
        Kind::Folder => 0o040_000,
    }
}

fn check_size(row: u32, kind: Kind, entry: &Entry) -> Result<()> {
    let fits = match entry.method {
        layout::STORED => entry.stored == entry.size,
        // A zstd frame of n bytes holds no more than its 128 KiB blocks can claim.
        layout::ZSTD => entry.size.div_ceil(131_072).saturating_mul(3) <= entry.stored,
        _ => false,
    };
    let bounded = match kind {
        Kind::Manifest => entry.size <= limits::MANIFEST_BYTES && entry.method == layout::STORED,
        Kind::Link => entry.size <= limits::PATH_BYTES as u64 && entry.size > 0,
        Kind::Folder => entry.size == 0,
        Kind::Code | Kind::File => true,
    };
    if fits && bounded {
        return Ok(());
    }
    fail(format!(
        "entry {row}: method {}, {} bytes stored for {}",
        entry.method, entry.stored, entry.size
    ))
}

fn folders<B: AsRef<[u8]>>(index: &Index<B>) -> Result<()> {
    let mut previous: Option<&[u8]> = None;
    let mut next_child = 0;
    for row in 0..index.folders() {
        let Some(folder) = index.folder(row) else {
            return fail("folder is missing");
        };
        let path = text(index, folder.path)?;
        if row == 0 {
            if !path.is_empty() || some(folder.parent).is_some() {
                return fail("folder 0 is not the top");
            }
        } else {
            name::check(path)?;
            let parent = index
                .folder(folder.parent)
                .map(|parent| index.text(parent.path));
            if folder.parent >= row || parent != Some(name::split(path).0) {
                return fail(format!("folder {row} names parent {}", folder.parent));
            }
        }
        if previous.is_some_and(|previous| previous >= path) {
            return fail(format!("folder {row} is out of order"));
        }
        previous = Some(path);
        if folder.first_child != next_child {
            return fail(format!("children of folder {row} are out of place"));
        }
        next_child = next_child.saturating_add(folder.children);
        children(index, row, &folder)?;
    }
    if next_child != index.rows::<Node>(Section::Children) {
        return fail("children without a folder");
    }
    Ok(())
}

fn children<B: AsRef<[u8]>>(index: &Index<B>, row: u32, folder: &record::Folder) -> Result<()> {
    let mut previous: Option<&[u8]> = None;
    for node in index.children(folder) {
        let parent = match node {
            Node::Entry(entry) => index.entry(entry).map(|entry| entry.folder),
            Node::Folder(child) => index.folder(child).map(|child| child.parent),
        };
        if parent != Some(row) {
            return fail(format!("child {node:?} is not of folder {row}"));
        }
        let last = index.path(node).map(|path| name::split(path).1);
        if previous.is_some() && previous >= last {
            return fail(format!(
                "children of folder {row} are out of order or twice there"
            ));
        }
        previous = last;
    }
    Ok(())
}

fn blocks<B: AsRef<[u8]>>(index: &Index<B>) -> Result<()> {
    let (mut at, mut module) = (0_u64, 0_u32);
    for row in 0..index.blocks() {
        let Some(block) = index.block(row) else {
            return fail("block is missing");
        };
        let entry = index
            .entry(block.entry)
            .filter(|entry| entry.kind == Kind::Code as u8);
        let Some(entry) = entry else {
            return fail(format!("block {row} has no entry"));
        };
        if block.at != at || block.first_module != module || block.modules == 0 {
            return fail(format!("block {row} is out of place"));
        }
        let first = at;
        for _ in 0..block.modules {
            let Some(found) = index.module(module).filter(|found| found.code_at == at) else {
                return fail(format!("module {module} is not in block {row}"));
            };
            at += u64::from(found.code_len);
            module += 1;
        }
        if at - first != entry.size {
            return fail(format!(
                "block {row} holds {} bytes of {}",
                at - first,
                entry.size
            ));
        }
        if entry.size > limits::BLOCK_BYTES && block.modules > 1 {
            return fail(format!("block {row} is too large"));
        }
    }
    if at != index.header().code_len {
        return fail(format!(
            "blocks hold {at} bytes of {}",
            index.header().code_len
        ));
    }
    if (module..index.modules()).any(|row| {
        index
            .module(row)
            .is_none_or(|found| found.code_at != u64::MAX)
    }) {
        return fail("module has code outside the blocks");
    }
    Ok(())
}

fn modules<B: AsRef<[u8]>>(index: &Index<B>) -> Result<()> {
    for row in 0..index.modules() {
        let Some(module) = index.module(row) else {
            return fail("module is missing");
        };
        let name = text(index, module.name)?;
        if name.is_empty() || name.contains(&b'/') || ModuleKind::from_number(module.kind).is_none()
        {
            return fail(format!("module {row} has no name or kind"));
        }
        let file = index.entry(module.file);
        let home = some(module.package).unwrap_or(module.folder);
        if file.is_none_or(|file| file.folder != home || file.kind > Kind::Link as u8) {
            return fail(format!("module {row} names file {}", module.file));
        }
        if some(module.package).is_some_and(|package| {
            index
                .folder(package)
                .is_none_or(|package| package.parent != module.folder)
        }) {
            return fail(format!("module {row} names package {}", module.package));
        }
        if index.folder(module.folder).is_none()
            || some(module.group).is_some_and(|group| group >= index.groups())
        {
            return fail(format!(
                "module {row} names a folder or group that isn't there"
            ));
        }
        check_filename(row, &module)?;
    }
    Ok(())
}

fn check_filename(row: u32, module: &Module) -> Result<()> {
    // The record is a type byte, four bytes of length and at least one byte of text.
    match some(module.filename_at) {
        Some(at) if u64::from(at) + 6 > u64::from(module.code_len) => fail(format!(
            "module {row} has its file name at {at} of {}",
            module.code_len
        )),
        _ => Ok(()),
    }
}

fn groups<B: AsRef<[u8]>>(index: &Index<B>) -> Result<()> {
    let items = u64::from(index.rows::<u32>(Section::GroupItems));
    for row in 0..index.groups() {
        let Some(group) = index.group(row) else {
            return fail("group is missing");
        };
        text(index, group.name)?;
        for (first, count) in [
            (group.first_entry, group.entries),
            (group.first_companion, group.companions),
        ] {
            if u64::from(first) + u64::from(count) > items {
                return fail(format!("group {row} has items outside"));
            }
        }
        if index.group_entries(&group).any(|entry| {
            index
                .entry(entry)
                .is_none_or(|entry| entry.kind > Kind::Folder as u8)
        }) || index
            .companions(&group)
            .any(|other| other >= index.groups())
        {
            return fail(format!("group {row} names what isn't there"));
        }
    }
    Ok(())
}

fn needs<B: AsRef<[u8]>>(index: &Index<B>) -> Result<()> {
    let items = u64::from(index.rows::<u32>(Section::NeedItems));
    let mut previous = None;
    for row in 0..index.rows::<Need>(Section::Needs) {
        let Some(need) = index.row::<Need>(Section::Needs, row) else {
            return fail("need is missing");
        };
        if previous >= Some(need.entry)
            || need.entry >= index.entries()
            || u64::from(need.first) + u64::from(need.count) > items
            || index
                .needs(need.entry)
                .any(|entry| entry >= index.entries())
        {
            return fail(format!(
                "need {row} is out of order or names what isn't there"
            ));
        }
        previous = Some(need.entry);
    }
    Ok(())
}

/// Every row is found under its own name: with the tables' sizes that leaves no slot unexplained.
fn slots<B: AsRef<[u8]>>(index: &Index<B>) -> Result<()> {
    for row in 0..index.modules() {
        let found = index
            .module(row)
            .and_then(|module| index.find_module(module.folder, index.text(module.name)));
        if found.is_none_or(|(found, _)| found != row) {
            return fail(format!("module {row} is not in the hash table, or twice"));
        }
    }
    let nodes = (0..index.entries())
        .map(Node::Entry)
        .chain((0..index.folders()).map(Node::Folder));
    for node in nodes {
        if index.path(node).and_then(|path| index.find(path)) != Some(node) {
            return fail(format!("{node:?} is not in the hash table, or twice"));
        }
    }
    let used = |section, empty: u32| {
        (0..index.rows::<u32>(section))
            .filter(|&slot| index.row::<u32>(section, slot) != Some(empty))
            .count()
    };
    let empty_path = {
        let mut out = Vec::new();
        record::Record::write(&EMPTY, &mut out);
        <u32 as record::Record>::read(&out)
    };
    if used(Section::ModuleSlots, limits::NONE) != index.modules() as usize
        || used(Section::PathSlots, empty_path) != (index.entries() + index.folders() - 1) as usize
    {
        return fail("hash table has foreign slots");
    }
    Ok(())
}
