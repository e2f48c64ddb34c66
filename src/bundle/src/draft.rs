//! A bundle to be: what `pack` fills in and the [`Writer`](crate::Writer) turns into an index.

use std::collections::BTreeMap;

use crate::record::{Kind, ModuleKind};

/// Everything about a bundle but the stored bytes.
///
/// References between the lists are positions in them. Entries are in file order, hot ones first;
/// the manifest's own entry is added by the writer and doesn't count.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// Files, links, empty folders and code blocks, in file order.
    pub entries: Vec<DraftEntry>,
    /// How many of the entries, from the front, are hot.
    pub hot: usize,
    /// Modules: those with code first, in the order of their code.
    pub modules: Vec<DraftModule>,
    /// Code blocks, in the order of their code.
    pub blocks: Vec<DraftBlock>,
    /// Distributions.
    pub groups: Vec<DraftGroup>,
    /// ELF file to the libraries that must be open before it, dependencies first.
    pub needs: BTreeMap<usize, Vec<usize>>,
}

/// An entry to be.
#[derive(Clone, Debug)]
pub struct DraftEntry {
    /// Path inside the bundle, bytes.
    pub path: Vec<u8>,
    /// What it is; not [`Kind::Manifest`].
    pub kind: Kind,
    /// Permissions; other bits are ignored.
    pub mode: u32,
    /// `ENTRY_*` bits.
    pub flags: u16,
    /// Its group.
    pub group: Option<usize>,
}

/// A module to be.
#[derive(Clone, Debug)]
pub struct DraftModule {
    /// Path of the folder in which the name is searched.
    pub folder: Vec<u8>,
    /// Last part of the module's name.
    pub name: Vec<u8>,
    /// How it is loaded.
    pub kind: ModuleKind,
    /// The entry of its file.
    pub file: usize,
    /// Is it a package (its file is `__init__` in the folder of its name)?
    pub package: bool,
    /// Its code: bytes, and where the file name's string record starts.
    pub code: Option<(u32, Option<u32>)>,
    /// The group that must be placed before it runs.
    pub group: Option<usize>,
}

/// A code block to be: the next modules in order.
#[derive(Clone, Copy, Debug)]
pub struct DraftBlock {
    /// Its entry.
    pub entry: usize,
    /// How many modules it holds.
    pub modules: usize,
}

/// A group to be. Its entries are those that name it.
#[derive(Clone, Debug, Default)]
pub struct DraftGroup {
    /// Name of the distribution or folder.
    pub name: String,
    /// Groups that come with it.
    pub companions: Vec<usize>,
    /// Placed before imports begin.
    pub eager: bool,
}
