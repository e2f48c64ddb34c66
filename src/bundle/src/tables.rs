//! The tables of an index, made from a draft: rows that name each other, then what is known of each
//! entry when its bytes are stored.

use std::collections::{BTreeMap, HashMap};

use crate::{
    Draft, Error, Result,
    draft::DraftEntry,
    index::{self, EMPTY, Header},
    layout,
    limits::{self, NONE, SECTIONS},
    name,
    record::{self, Block, Entry, Folder, Group, Kind, Module, Need, Node, Record, Text},
};

/// What the writer learns of an entry when its bytes are stored.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Placed {
    pub(crate) method: u8,
    pub(crate) crc32: u32,
    pub(crate) len: u64,
    pub(crate) size: u64,
    pub(crate) offset: u64,
    pub(crate) sha256: [u8; 32],
}

/// The strings section: every text once.
#[derive(Default)]
struct Strings {
    bytes: Vec<u8>,
    seen: HashMap<Vec<u8>, Text>,
}

impl Strings {
    fn add(&mut self, text: &[u8]) -> Result<Text> {
        if let Some(&seen) = self.seen.get(text) {
            return Ok(seen);
        }
        let at = u32::try_from(self.bytes.len()).map_err(|_| Error::draft("too many names"))?;
        let added = Text {
            at,
            len: text.len() as u32,
        };
        self.bytes.extend(text);
        self.seen.insert(text.to_vec(), added);
        Ok(added)
    }
}

fn row(position: usize) -> Result<u32> {
    // Row numbers stay below the folder bit; positions of entries move by one for the manifest.
    u32::try_from(position)
        .ok()
        .filter(|&row| row < record::FOLDER_BIT - 1)
        .ok_or_else(|| Error::draft(format!("too many rows: {position}")))
}

fn entry_row(position: usize) -> Result<u32> {
    row(position + 1)
}

fn optional(position: Option<usize>) -> Result<u32> {
    position.map_or(Ok(NONE), row)
}

/// Tables that don't depend on stored bytes, and the entries that do.
pub(crate) struct Tables {
    sections: [Vec<u8>; SECTIONS],
    entries: Vec<Entry>,
    hot: usize,
    code_len: u64,
}

impl Draft {
    /// Builds the tables.
    pub(crate) fn tables(&self) -> Result<Tables> {
        let mut strings = Strings::default();
        let folders = self.folder_rows()?;
        let entries = self.entry_rows(&mut strings, &folders)?;
        let (folder_rows, children) = self.folder_tables(&mut strings, &folders)?;
        let (modules, code_len) = self.module_rows(&mut strings, &folders)?;
        let (groups, group_items) = self.group_rows(&mut strings)?;
        let (needs, need_items) = self.need_rows()?;
        let blocks = self.block_rows(&modules)?;

        let paths = entries
            .iter()
            .enumerate()
            .map(|(position, entry)| (Node::Entry(position as u32), entry.path))
            .chain(
                folder_rows
                    .iter()
                    .enumerate()
                    .skip(1)
                    .map(|(position, folder)| (Node::Folder(position as u32), folder.path)),
            );
        let path_slots = path_slots(paths, entries.len() + folder_rows.len(), &strings.bytes)?;
        let module_slots = module_slots(&modules, &strings.bytes)?;
        Ok(Tables {
            sections: [
                strings.bytes,
                vec![0; entries.len() * Entry::WIDTH],
                table(&folder_rows),
                table(&children),
                table(&modules),
                table(&module_slots),
                table(&path_slots),
                table(&groups),
                table(&group_items),
                table(&needs),
                table(&need_items),
                table(&blocks),
            ],
            entries,
            hot: self.hot,
            code_len,
        })
    }

    /// Every folder above an entry, sorted by path, with its row.
    fn folder_rows(&self) -> Result<BTreeMap<Vec<u8>, u32>> {
        let mut folders = BTreeMap::from([(Vec::new(), 0)]);
        for entry in self.entries.iter().filter(|entry| entry.kind != Kind::Code) {
            name::check(&entry.path)?;
            let mut path = name::split(&entry.path).0;
            while !path.is_empty() && !folders.contains_key(path) {
                folders.insert(path.to_vec(), 0);
                path = name::split(path).0;
            }
        }
        for (position, number) in folders.values_mut().enumerate() {
            *number = row(position)?;
        }
        Ok(folders)
    }

    fn entry_rows(
        &self,
        strings: &mut Strings,
        folders: &BTreeMap<Vec<u8>, u32>,
    ) -> Result<Vec<Entry>> {
        let manifest = DraftEntry {
            path: limits::MANIFEST_NAME.into(),
            kind: Kind::Manifest,
            mode: 0o644,
            flags: 0,
            group: None,
        };
        let mut rows = Vec::with_capacity(self.entries.len() + 1);
        for entry in std::iter::once(&manifest).chain(&self.entries) {
            let zip_name = layout::zip_name(&entry.path, entry.kind);
            let folder = folders
                .get(name::split(&entry.path).0)
                .copied()
                .unwrap_or(NONE);
            rows.push(Entry {
                name: strings.add(zip_name.as_bytes())?,
                path: strings.add(&entry.path)?,
                mode: entry.mode & 0o777 | index::check::file_type(entry.kind),
                crc32: 0,
                kind: entry.kind as u8,
                method: layout::STORED,
                flags: entry.flags,
                group: optional(entry.group)?,
                offset: 0,
                stored: 0,
                size: 0,
                sha256: [0; 32],
                folder: if matches!(entry.kind, Kind::Code | Kind::Manifest) {
                    NONE
                } else {
                    folder
                },
            });
        }
        Ok(rows)
    }

    fn folder_tables(
        &self,
        strings: &mut Strings,
        folders: &BTreeMap<Vec<u8>, u32>,
    ) -> Result<(Vec<Folder>, Vec<Node>)> {
        let mut members: Vec<Vec<(&[u8], Node)>> = vec![Vec::new(); folders.len()];
        let mut add = |path: &'_ [u8], name, node| {
            if let Some(&number) = folders.get(path) {
                members[number as usize].push((name, node));
            }
        };
        for (path, &number) in folders.iter().filter(|(path, _)| !path.is_empty()) {
            let (above, last) = name::split(path);
            add(above, last, Node::Folder(number));
        }
        for (position, entry) in self.entries.iter().enumerate() {
            if entry.kind != Kind::Code {
                let (above, last) = name::split(&entry.path);
                add(above, last, Node::Entry(entry_row(position)?));
            }
        }
        let (mut rows, mut children) = (Vec::with_capacity(folders.len()), Vec::new());
        for (path, members) in folders.keys().zip(&mut members) {
            members.sort_unstable_by_key(|&(name, _)| name);
            if let Some(twice) = members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                let last = name::escape(twice[0].0);
                return Err(Error::draft(format!(
                    "`{last}` is twice in `{}`",
                    name::escape(path)
                )));
            }
            rows.push(Folder {
                path: strings.add(path)?,
                parent: if path.is_empty() {
                    NONE
                } else {
                    folders.get(name::split(path).0).copied().unwrap_or(NONE)
                },
                first_child: row(children.len())?,
                children: row(members.len())?,
            });
            children.extend(members.iter().map(|&(_, node)| node));
        }
        Ok((rows, children))
    }

    fn module_rows(
        &self,
        strings: &mut Strings,
        folders: &BTreeMap<Vec<u8>, u32>,
    ) -> Result<(Vec<Module>, u64)> {
        let find = |path: &[u8]| {
            folders.get(path).copied().ok_or_else(|| {
                Error::draft(format!(
                    "module in a folder without files: `{}`",
                    name::escape(path)
                ))
            })
        };
        let mut rows = Vec::with_capacity(self.modules.len());
        let mut code_len = 0;
        for module in &self.modules {
            let package = if module.package {
                let mut path = module.folder.clone();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend(&module.name);
                find(&path)?
            } else {
                NONE
            };
            let (code_at, len, filename_at) = match module.code {
                Some((len, filename_at)) => (code_len, len, filename_at.unwrap_or(NONE)),
                None => (u64::MAX, 0, NONE),
            };
            code_len += u64::from(len);
            rows.push(Module {
                folder: find(&module.folder)?,
                name: strings.add(&module.name)?,
                kind: module.kind as u8,
                file: entry_row(module.file)?,
                package,
                code_at,
                code_len: len,
                filename_at,
                group: optional(module.group)?,
            });
        }
        Ok((rows, code_len))
    }

    fn group_rows(&self, strings: &mut Strings) -> Result<(Vec<Group>, Vec<u32>)> {
        let mut members: Vec<Vec<u32>> = vec![Vec::new(); self.groups.len()];
        for (position, entry) in self.entries.iter().enumerate() {
            if let Some(list) = entry.group.and_then(|group| members.get_mut(group)) {
                list.push(entry_row(position)?);
            }
        }
        let (mut rows, mut items) = (Vec::with_capacity(self.groups.len()), Vec::new());
        for (group, members) in self.groups.iter().zip(members) {
            let first_entry = row(items.len())?;
            items.extend(&members);
            let first_companion = row(items.len())?;
            for &companion in &group.companions {
                items.push(row(companion)?);
            }
            rows.push(Group {
                name: strings.add(group.name.as_bytes())?,
                first_entry,
                entries: row(members.len())?,
                first_companion,
                companions: row(group.companions.len())?,
                flags: if group.eager { record::GROUP_EAGER } else { 0 },
            });
        }
        Ok((rows, items))
    }

    fn need_rows(&self) -> Result<(Vec<Need>, Vec<u32>)> {
        let (mut rows, mut items) = (Vec::with_capacity(self.needs.len()), Vec::new());
        for (&entry, libraries) in &self.needs {
            rows.push(Need {
                entry: entry_row(entry)?,
                first: row(items.len())?,
                count: row(libraries.len())?,
            });
            for &library in libraries {
                items.push(entry_row(library)?);
            }
        }
        Ok((rows, items))
    }

    fn block_rows(&self, modules: &[Module]) -> Result<Vec<Block>> {
        let mut first = 0;
        let mut rows = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let at = modules
                .get(first)
                .map(|module| module.code_at)
                .ok_or_else(|| Error::draft("code block without modules"))?;
            rows.push(Block {
                entry: entry_row(block.entry)?,
                first_module: row(first)?,
                modules: row(block.modules)?,
                at,
            });
            first += block.modules;
        }
        Ok(rows)
    }
}

impl Tables {
    /// Bytes of the index, known before anything is stored.
    pub(crate) fn index_len(&self) -> u64 {
        self.header(&[]).index_len
    }

    /// The zip names, manifest first.
    pub(crate) fn name_len(&self, position: usize) -> Option<u32> {
        self.entries.get(position).map(|entry| entry.name.len)
    }

    /// The number of entries, manifest included.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn header(&self, stored: &[Placed]) -> Header {
        let mut end = limits::HEADER as u64;
        let sections = std::array::from_fn(|section| {
            let at = end.next_multiple_of(8);
            end = at + self.sections[section].len() as u64;
            (at, end - at)
        });
        let directory = stored.last().map_or(0, |last| last.offset + last.len);
        Header {
            index_len: end,
            file_len: 0,
            directory,
            // The manifest is entry 0, so hot entry number `hot` is at that position here.
            hot_end: stored
                .get(self.hot)
                .map_or(0, |last| last.offset + last.len),
            code_len: self.code_len,
            sections,
        }
    }

    /// The index, when everything is stored.
    pub(crate) fn index(&mut self, stored: &[Placed]) -> Result<index::Index<Vec<u8>>> {
        let mut rows = Vec::with_capacity(self.entries.len() * Entry::WIDTH);
        for (entry, stored) in self.entries.iter_mut().zip(stored) {
            entry.method = stored.method;
            entry.crc32 = stored.crc32;
            entry.stored = stored.len;
            entry.size = stored.size;
            entry.offset = stored.offset;
            entry.sha256 = stored.sha256;
            entry.write(&mut rows);
        }
        self.sections[index::Section::Entries as usize] = rows;
        let mut header = self.header(stored);
        let bytes = self.assemble(&header);
        let unfinished = index::Index::open(bytes)?;
        header.file_len = header.directory + layout::directory_len(&unfinished);
        index::Index::open(self.assemble(&header))
    }

    fn assemble(&self, header: &Header) -> Vec<u8> {
        let mut bytes = header.to_bytes();
        bytes.reserve_exact(header.index_len as usize - bytes.len());
        for (section, &(at, _)) in self.sections.iter().zip(&header.sections) {
            bytes.resize(at as usize, 0);
            bytes.extend(section);
        }
        bytes
    }
}

fn table<R: Record>(rows: &[R]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() * R::WIDTH);
    for row in rows {
        row.write(&mut out);
    }
    out
}

fn text(strings: &[u8], text: Text) -> &[u8] {
    strings
        .get(text.at as usize..(text.at + text.len) as usize)
        .unwrap_or(&[])
}

fn path_slots(
    paths: impl Iterator<Item = (Node, Text)>,
    rows: usize,
    strings: &[u8],
) -> Result<Vec<Node>> {
    let slots = index::check::slot_count(row(rows)?);
    let mut table = vec![EMPTY; slots as usize];
    for (node, path) in paths {
        let mut free = index::probe(index::hash_path(text(strings, path)), slots);
        if let Some(slot) = free.find(|&slot| table[slot as usize] == EMPTY) {
            table[slot as usize] = node;
        }
    }
    Ok(table)
}

fn module_slots(modules: &[Module], strings: &[u8]) -> Result<Vec<u32>> {
    let slots = index::check::slot_count(row(modules.len())?);
    let mut table = vec![NONE; slots as usize];
    for (position, module) in modules.iter().enumerate() {
        let hash = index::hash_module(module.folder, text(strings, module.name));
        if let Some(slot) = index::probe(hash, slots).find(|&slot| table[slot as usize] == NONE) {
            table[slot as usize] = row(position)?;
        }
    }
    Ok(table)
}
