//! The tables of a bundle, searched in place: nothing is parsed or copied when a rank attaches.
//!
//! [`Index::open`] looks at the header only; [`Index::validate`] walks every row and is done once
//! per bundle, by whoever reads it from disk. All accessors check bounds and answer `None` rather
//! than trust a number, so an index that was never validated can mislead but not crash.

use std::ops::Range;

use crate::{
    Error, Identity, Result,
    limits::{self, NONE, SECTIONS},
    record::{Block, Entry, Folder, Group, Module, Need, Node, Record, Text, some},
};

/// The sections, in file order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Section {
    /// Names and paths.
    Strings = 0,
    /// [`Entry`] rows in file order; the first is the manifest.
    Entries = 1,
    /// [`Folder`] rows, sorted by path.
    Folders = 2,
    /// [`Node`] rows: the children of each folder, sorted by name.
    Children = 3,
    /// [`Module`] rows: those with code first, in the order of their code.
    Modules = 4,
    /// Hash table over (folder, name): rows of modules.
    ModuleSlots = 5,
    /// Hash table over paths: [`Node`] rows.
    PathSlots = 6,
    /// [`Group`] rows.
    Groups = 7,
    /// Entries and companions of the groups.
    GroupItems = 8,
    /// [`Need`] rows, sorted by entry.
    Needs = 9,
    /// Entries of the needs.
    NeedItems = 10,
    /// [`Block`] rows, in the order of their code.
    Blocks = 11,
}

/// The fixed part at the start of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the index.
    pub index_len: u64,
    /// Bytes of the whole file.
    pub file_len: u64,
    /// Offset of the zip's central directory.
    pub directory: u64,
    /// Entries that start before this offset are hot.
    pub hot_end: u64,
    /// Bytes of the packed code, all blocks decoded.
    pub code_len: u64,
    /// Offset and length of each section within the index, in bytes.
    pub sections: [(u64, u64); SECTIONS],
}

impl Header {
    /// The header as stored: [`limits::HEADER`] bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(limits::HEADER);
        out.extend(limits::MAGIC);
        out.extend(limits::MAJOR.to_le_bytes());
        out.extend(limits::MINOR.to_le_bytes());
        out.extend((limits::HEADER as u32).to_le_bytes());
        for word in [
            self.index_len,
            self.file_len,
            self.directory,
            self.hot_end,
            self.code_len,
        ] {
            out.extend(word.to_le_bytes());
        }
        out.extend(0_u64.to_le_bytes());
        for (at, len) in self.sections {
            out.extend(at.to_le_bytes());
            out.extend(len.to_le_bytes());
        }
        out
    }

    /// Reads and checks a stored header.
    ///
    /// # Errors
    /// [`Error::Version`] for another major version, [`Error::Index`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let Some(head) = bytes.get(..limits::HEADER) else {
            return Err(Error::index(format!(
                "header: expected {} bytes, got {}",
                limits::HEADER,
                bytes.len()
            )));
        };
        if head[..8] != limits::MAGIC {
            return Err(Error::index("wrong magic"));
        }
        let major = u16::from_le_bytes([head[8], head[9]]);
        if major != limits::MAJOR {
            return Err(Error::Version {
                expected: limits::MAJOR,
                got: major,
            });
        }
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&head[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        if head[12..16] != (limits::HEADER as u32).to_le_bytes() || word(56) != 0 {
            return Err(Error::index("reserved header fields are not as specified"));
        }
        let mut sections = [(0, 0); SECTIONS];
        for (row, section) in sections.iter_mut().enumerate() {
            *section = (word(64 + 16 * row), word(72 + 16 * row));
        }
        Ok(Self {
            index_len: word(16),
            file_len: word(24),
            directory: word(32),
            hot_end: word(40),
            code_len: word(48),
            sections,
        })
    }
}

/// An index over any bytes: read from a file, or mapped.
pub struct Index<B> {
    bytes: B,
    header: Header,
    sections: [(usize, usize); SECTIONS],
}

impl<B: AsRef<[u8]>> Index<B> {
    /// Opens an index: checks the header and that every section lies inside, in constant time.
    ///
    /// # Errors
    /// [`Error::Version`] or [`Error::Index`].
    pub fn open(bytes: B) -> Result<Self> {
        let slice = bytes.as_ref();
        let header = Header::from_bytes(slice)?;
        if header.index_len != slice.len() as u64 {
            return Err(Error::index(format!(
                "length: expected {} bytes, got {}",
                header.index_len,
                slice.len()
            )));
        }
        let widths = [
            1,
            Entry::WIDTH,
            Folder::WIDTH,
            4,
            Module::WIDTH,
            4,
            4,
            Group::WIDTH,
            4,
            12,
            4,
            Block::WIDTH,
        ];
        let mut sections = [(0, 0); SECTIONS];
        let mut end = limits::HEADER as u64;
        for (row, &(at, len)) in header.sections.iter().enumerate() {
            // Sections follow one another, each aligned to 8 bytes: no byte without a meaning.
            if at != end.next_multiple_of(8) || len > header.index_len.saturating_sub(at) {
                return Err(Error::index(format!(
                    "section {row} lies outside: offset {at}, {len} bytes"
                )));
            }
            if len % widths[row] as u64 != 0 {
                return Err(Error::index(format!(
                    "section {row} holds half a row: {len} bytes"
                )));
            }
            if slice
                .get(end as usize..at as usize)
                .is_none_or(|gap| gap.iter().any(|&byte| byte != 0))
            {
                return Err(Error::index(format!(
                    "padding before section {row} is not zero"
                )));
            }
            sections[row] = (at as usize, len as usize);
            end = at + len;
        }
        if end != header.index_len {
            return Err(Error::index(format!(
                "last section ends at {end}, index at {}",
                header.index_len
            )));
        }
        Ok(Self {
            bytes,
            header,
            sections,
        })
    }

    /// The fixed part.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// SHA-256 over all bytes.
    pub fn identity(&self) -> Identity {
        Identity::of(self.bytes())
    }

    fn section(&self, section: Section) -> &[u8] {
        let (at, len) = self.sections[section as usize];
        self.bytes().get(at..at + len).unwrap_or(&[])
    }

    fn row<R: Record>(&self, section: Section, row: u32) -> Option<R> {
        let at = (row as usize).checked_mul(R::WIDTH)?;
        self.section(section).get(at..at + R::WIDTH).map(R::read)
    }

    fn rows<R: Record>(&self, section: Section) -> u32 {
        (self.sections[section as usize].1 / R::WIDTH) as u32
    }

    fn items<'a, R: Record + 'a>(
        &'a self,
        section: Section,
        first: u32,
        count: u32,
    ) -> impl Iterator<Item = R> + 'a {
        let at = first as usize * R::WIDTH;
        let end = at + count as usize * R::WIDTH;
        self.section(section)
            .get(at..end)
            .unwrap_or(&[])
            .chunks_exact(R::WIDTH)
            .map(R::read)
    }

    /// The bytes of a name or path.
    pub fn text(&self, text: Text) -> &[u8] {
        self.section(Section::Strings)
            .get(text.at as usize..text.at as usize + text.len as usize)
            .unwrap_or(&[])
    }

    /// The zip name of an entry, for messages.
    pub fn entry_name(&self, entry: &Entry) -> String {
        String::from_utf8_lossy(self.text(entry.name)).into_owned()
    }

    /// How many entries.
    pub fn entries(&self) -> u32 {
        self.rows::<Entry>(Section::Entries)
    }

    /// One entry.
    pub fn entry(&self, row: u32) -> Option<Entry> {
        self.row(Section::Entries, row)
    }

    /// Is this entry decoded before imports start, wherever several ranks share the work?
    pub fn is_hot(&self, entry: &Entry) -> bool {
        entry.offset < self.header.hot_end
    }

    /// How many folders.
    pub fn folders(&self) -> u32 {
        self.rows::<Folder>(Section::Folders)
    }

    /// One folder.
    pub fn folder(&self, row: u32) -> Option<Folder> {
        self.row(Section::Folders, row)
    }

    /// The children of a folder, sorted by name.
    pub fn children(&self, folder: &Folder) -> impl Iterator<Item = Node> + '_ {
        self.items(Section::Children, folder.first_child, folder.children)
    }

    /// The path of an entry or folder, inside the tree.
    pub fn path(&self, node: Node) -> Option<&[u8]> {
        let text = match node {
            Node::Entry(row) => self.entry(row)?.path,
            Node::Folder(row) => self.folder(row)?.path,
        };
        Some(self.text(text))
    }

    /// How many modules.
    pub fn modules(&self) -> u32 {
        self.rows::<Module>(Section::Modules)
    }

    /// One module.
    pub fn module(&self, row: u32) -> Option<Module> {
        self.row(Section::Modules, row)
    }

    /// How many groups.
    pub fn groups(&self) -> u32 {
        self.rows::<Group>(Section::Groups)
    }

    /// One group.
    pub fn group(&self, row: u32) -> Option<Group> {
        self.row(Section::Groups, row)
    }

    /// The entries that a group places.
    pub fn group_entries(&self, group: &Group) -> impl Iterator<Item = u32> + '_ {
        self.items(Section::GroupItems, group.first_entry, group.entries)
    }

    /// The groups that come with a group.
    pub fn companions(&self, group: &Group) -> impl Iterator<Item = u32> + '_ {
        self.items(Section::GroupItems, group.first_companion, group.companions)
    }

    /// How many code blocks.
    pub fn blocks(&self) -> u32 {
        self.rows::<Block>(Section::Blocks)
    }

    /// One code block.
    pub fn block(&self, row: u32) -> Option<Block> {
        self.row(Section::Blocks, row)
    }

    /// The libraries (entries) to open before this entry, dependencies first.
    pub fn needs(&self, entry: u32) -> impl Iterator<Item = u32> + '_ {
        let (mut low, mut high) = (0, self.rows::<Need>(Section::Needs));
        while low < high {
            let middle = low.midpoint(high);
            match self.row::<Need>(Section::Needs, middle) {
                Some(need) if need.entry < entry => low = middle + 1,
                _ => high = middle,
            }
        }
        let found = self
            .row::<Need>(Section::Needs, low)
            .filter(|need| need.entry == entry);
        let (first, count) = found.map_or((0, 0), |need| (need.first, need.count));
        self.items(Section::NeedItems, first, count)
    }

    /// The module that `import name` finds in a folder.
    pub fn find_module(&self, folder: u32, name: &[u8]) -> Option<(u32, Module)> {
        let slots = self.rows::<u32>(Section::ModuleSlots);
        for slot in probe(hash_module(folder, name), slots) {
            let row = self.row::<u32>(Section::ModuleSlots, slot).and_then(some)?;
            let module = self.module(row)?;
            if module.folder == folder && self.text(module.name) == name {
                return Some((row, module));
            }
        }
        None
    }

    /// The entry or folder at a path of the tree.
    pub fn find(&self, path: &[u8]) -> Option<Node> {
        if path.is_empty() {
            return Some(Node::Folder(0));
        }
        let slots = self.rows::<Node>(Section::PathSlots);
        for slot in probe(hash_path(path), slots) {
            let node: Node = self.row(Section::PathSlots, slot)?;
            if node == EMPTY {
                return None;
            }
            if self.path(node)? == path {
                return Some(node);
            }
        }
        None
    }

    /// The folder at a path of the tree.
    pub fn find_folder(&self, path: &[u8]) -> Option<u32> {
        match self.find(path) {
            Some(Node::Folder(row)) => Some(row),
            _ => None,
        }
    }

    /// Walks every row: every reference, name and order that readers rely on.
    ///
    /// # Errors
    /// [`Error::Index`] naming the first broken rule, [`Error::Name`] for a path that escapes.
    pub fn validate(&self) -> Result<()> {
        crate::index::check::all(self)
    }
}

/// An empty path slot: a folder row that can't exist.
pub(crate) const EMPTY: Node = Node::Folder(NONE & !crate::record::FOLDER_BIT);

/// The slots to try, in order; none for an empty table. Tables have a power of two of slots.
pub(crate) fn probe(hash: u64, slots: u32) -> impl Iterator<Item = u32> {
    let mask = slots.wrapping_sub(1);
    let start = (hash ^ (hash >> 32)) as u32;
    let tries: Range<u32> = 0..slots;
    tries.map(move |step| start.wrapping_add(step) & mask)
}

/// FNV-1a over a path.
pub(crate) fn hash_path(path: &[u8]) -> u64 {
    fnv(0xcbf2_9ce4_8422_2325, path)
}

/// FNV-1a over the row of a folder and a name.
pub(crate) fn hash_module(folder: u32, name: &[u8]) -> u64 {
    fnv(fnv(0xcbf2_9ce4_8422_2325, &folder.to_le_bytes()), name)
}

fn fnv(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seed, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

pub(crate) mod check;
