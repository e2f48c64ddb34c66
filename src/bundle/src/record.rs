//! One row of each table of the index: fixed width, little endian, read by value.

use crate::limits::NONE;

/// Reads a little-endian number at a fixed place of a row; rows are always whole.
macro_rules! number {
    ($type:ty, $row:expr, $at:expr) => {{
        let mut bytes = [0; size_of::<$type>()];
        if let Some(part) = $row.get($at..$at + size_of::<$type>()) {
            bytes.copy_from_slice(part);
        }
        <$type>::from_le_bytes(bytes)
    }};
}

/// A row that knows its width and how to read and write itself.
pub trait Record: Sized {
    /// Bytes of a row.
    const WIDTH: usize;
    /// Reads a row of exactly [`Self::WIDTH`] bytes.
    fn read(row: &[u8]) -> Self;
    /// Appends the row.
    fn write(&self, out: &mut Vec<u8>);
}

/// A piece of the strings section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// Offset in the section.
    pub at: u32,
    /// Length in bytes.
    pub len: u32,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A regular file of the tree.
    File = 1,
    /// A symlink of the tree; its content is the target.
    Link = 2,
    /// An empty folder of the tree.
    Folder = 3,
    /// A code block: marshalled code of many modules.
    Code = 4,
    /// The manifest.
    Manifest = 5,
}

impl Kind {
    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        [
            Self::File,
            Self::Link,
            Self::Folder,
            Self::Code,
            Self::Manifest,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == number)
    }
}

/// Entry is placed on request only, never with its group (large collections of headers, …).
pub const ENTRY_LAZY: u16 = 1;
/// Entry is an ELF file.
pub const ENTRY_ELF: u16 = 2;
/// Entry is a Python source.
pub const ENTRY_SOURCE: u16 = 4;

/// One stored file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name in the zip, UTF-8.
    pub name: Text,
    /// Path in the tree, bytes; the same text as the name unless it isn't UTF-8.
    pub path: Text,
    /// `st_mode`: type and permissions, without setuid, setgid and sticky bits.
    pub mode: u32,
    /// CRC-32 of the content, for zip readers.
    pub crc32: u32,
    /// Number of a [`Kind`].
    pub kind: u8,
    /// Zip method: 0 stored, 93 zstd.
    pub method: u8,
    /// `ENTRY_*` bits.
    pub flags: u16,
    /// Row of the group (distribution) it is placed with, or `NONE`.
    pub group: u32,
    /// Offset of its stored bytes in the file.
    pub offset: u64,
    /// Stored bytes.
    pub stored: u64,
    /// Content bytes.
    pub size: u64,
    /// SHA-256 of the stored bytes.
    pub sha256: [u8; 32],
    /// Row of its folder.
    pub folder: u32,
}

impl Record for Entry {
    const WIDTH: usize = 96;

    fn read(row: &[u8]) -> Self {
        let mut sha256 = [0; 32];
        if let Some(part) = row.get(56..88) {
            sha256.copy_from_slice(part);
        }
        Self {
            name: Text {
                at: number!(u32, row, 0),
                len: number!(u32, row, 4),
            },
            path: Text {
                at: number!(u32, row, 8),
                len: number!(u32, row, 12),
            },
            mode: number!(u32, row, 16),
            crc32: number!(u32, row, 20),
            kind: number!(u8, row, 24),
            method: number!(u8, row, 25),
            flags: number!(u16, row, 26),
            group: number!(u32, row, 28),
            offset: number!(u64, row, 32),
            stored: number!(u64, row, 40),
            size: number!(u64, row, 48),
            sha256,
            folder: number!(u32, row, 88),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        for word in [
            self.name.at,
            self.name.len,
            self.path.at,
            self.path.len,
            self.mode,
            self.crc32,
        ] {
            out.extend(word.to_le_bytes());
        }
        out.extend([self.kind, self.method]);
        out.extend(self.flags.to_le_bytes());
        out.extend(self.group.to_le_bytes());
        for word in [self.offset, self.stored, self.size] {
            out.extend(word.to_le_bytes());
        }
        out.extend(self.sha256);
        out.extend(self.folder.to_le_bytes());
        out.extend(0_u32.to_le_bytes());
    }
}

/// One folder of the tree. Row 0 is the bundle's top, with an empty path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Path in the tree, bytes.
    pub path: Text,
    /// Row of the folder above; of row 0, `NONE`.
    pub parent: u32,
    /// First of its children.
    pub first_child: u32,
    /// How many children.
    pub children: u32,
}

impl Record for Folder {
    const WIDTH: usize = 24;

    fn read(row: &[u8]) -> Self {
        Self {
            path: Text {
                at: number!(u32, row, 0),
                len: number!(u32, row, 4),
            },
            parent: number!(u32, row, 8),
            first_child: number!(u32, row, 12),
            children: number!(u32, row, 16),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        for word in [
            self.path.at,
            self.path.len,
            self.parent,
            self.first_child,
            self.children,
            0,
        ] {
            out.extend(word.to_le_bytes());
        }
    }
}

/// What a path names: an entry or a folder. In a table, folders have the top bit set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// Row of the entries.
    Entry(u32),
    /// Row of the folders.
    Folder(u32),
}

impl Record for Node {
    const WIDTH: usize = 4;

    fn read(row: &[u8]) -> Self {
        let number = number!(u32, row, 0);
        if number & FOLDER_BIT == 0 {
            Self::Entry(number)
        } else {
            Self::Folder(number & !FOLDER_BIT)
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let number = match *self {
            Self::Entry(row) => row,
            Self::Folder(row) => row | FOLDER_BIT,
        };
        out.extend(number.to_le_bytes());
    }
}

/// Marks folders among children and path slots; row numbers stay below it.
pub const FOLDER_BIT: u32 = 1 << 31;

/// A plain row number.
impl Record for u32 {
    const WIDTH: usize = 4;

    fn read(row: &[u8]) -> Self {
        number!(u32, row, 0)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.to_le_bytes());
    }
}

/// How a module is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ModuleKind {
    /// From a `.py` file.
    Source = 1,
    /// From a `.pyc` file without source.
    Sourceless = 2,
    /// From a shared library.
    Extension = 3,
}

impl ModuleKind {
    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Source, Self::Sourceless, Self::Extension]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// One module that an import of `name` from `folder` finds, after `FileFinder`'s precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module {
    /// Row of the folder that is searched.
    pub folder: u32,
    /// Last part of the module's name.
    pub name: Text,
    /// Number of a [`ModuleKind`].
    pub kind: u8,
    /// Row of the file it comes from (`__init__` of a package): an entry.
    pub file: u32,
    /// Row of the package's folder, or `NONE` for a plain module.
    pub package: u32,
    /// Offset of its code in the packed code, or `u64::MAX` if it has none.
    pub code_at: u64,
    /// Bytes of its code.
    pub code_len: u32,
    /// Where in the code the file name's string record starts, or `NONE` (no file name put in).
    pub filename_at: u32,
    /// Row of the group that must be placed before it runs, or `NONE`.
    pub group: u32,
}

impl Record for Module {
    const WIDTH: usize = 48;

    fn read(row: &[u8]) -> Self {
        Self {
            folder: number!(u32, row, 0),
            name: Text {
                at: number!(u32, row, 4),
                len: number!(u32, row, 8),
            },
            kind: number!(u8, row, 12),
            file: number!(u32, row, 16),
            package: number!(u32, row, 20),
            code_at: number!(u64, row, 24),
            code_len: number!(u32, row, 32),
            filename_at: number!(u32, row, 36),
            group: number!(u32, row, 40),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        for word in [self.folder, self.name.at, self.name.len] {
            out.extend(word.to_le_bytes());
        }
        out.extend([self.kind, 0, 0, 0]);
        out.extend(self.file.to_le_bytes());
        out.extend(self.package.to_le_bytes());
        out.extend(self.code_at.to_le_bytes());
        for word in [self.code_len, self.filename_at, self.group, 0] {
            out.extend(word.to_le_bytes());
        }
    }
}

/// Group is placed before imports begin.
pub const GROUP_EAGER: u32 = 1;

/// Files that are placed together: a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Name of the distribution, or of its top-level folder.
    pub name: Text,
    /// First of its entries among the group items.
    pub first_entry: u32,
    /// How many entries.
    pub entries: u32,
    /// First of the groups that come with it, among the group items.
    pub first_companion: u32,
    /// How many.
    pub companions: u32,
    /// `GROUP_*` bits.
    pub flags: u32,
}

impl Record for Group {
    const WIDTH: usize = 32;

    fn read(row: &[u8]) -> Self {
        Self {
            name: Text {
                at: number!(u32, row, 0),
                len: number!(u32, row, 4),
            },
            first_entry: number!(u32, row, 8),
            entries: number!(u32, row, 12),
            first_companion: number!(u32, row, 16),
            companions: number!(u32, row, 20),
            flags: number!(u32, row, 24),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        for word in [
            self.name.at,
            self.name.len,
            self.first_entry,
            self.entries,
            self.first_companion,
            self.companions,
            self.flags,
            0,
        ] {
            out.extend(word.to_le_bytes());
        }
    }
}

/// The libraries that must be open before an ELF file is: all of them in the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Row of the ELF file's entry; the table is sorted by it.
    pub entry: u32,
    /// First of the libraries' entries among the need items, dependencies first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl Record for Need {
    const WIDTH: usize = 12;

    fn read(row: &[u8]) -> Self {
        Self {
            entry: number!(u32, row, 0),
            first: number!(u32, row, 4),
            count: number!(u32, row, 8),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        for word in [self.entry, self.first, self.count] {
            out.extend(word.to_le_bytes());
        }
    }
}

/// One code block: where it lies in the packed code and which modules it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Row of its entry.
    pub entry: u32,
    /// Row of its first module; its modules lie back to back, in row order.
    pub first_module: u32,
    /// How many modules.
    pub modules: u32,
    /// Offset in the packed code.
    pub at: u64,
}

impl Record for Block {
    const WIDTH: usize = 24;

    fn read(row: &[u8]) -> Self {
        Self {
            entry: number!(u32, row, 0),
            first_module: number!(u32, row, 4),
            modules: number!(u32, row, 8),
            at: number!(u64, row, 16),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        for word in [self.entry, self.first_module, self.modules, 0] {
            out.extend(word.to_le_bytes());
        }
        out.extend(self.at.to_le_bytes());
    }
}

/// `None` for the number that means none.
#[must_use]
pub fn some(row: u32) -> Option<u32> {
    (row != NONE).then_some(row)
}
