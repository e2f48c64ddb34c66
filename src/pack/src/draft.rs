//! Everything that was decided, as the tables of a bundle, in the order in which a job wants it.
//!
//! Hot: code blocks but those of tests, then the eager groups, metadata first. Cold: code of tests,
//! then group by group; in a group what is placed with it, natives first, before sources, which are
//! read later or never.

use std::{cmp::Reverse, collections::BTreeMap};

use pybundle_bundle::{
    Draft,
    draft::{DraftBlock, DraftEntry, DraftGroup, DraftModule},
    record::{ENTRY_ELF, ENTRY_LAZY, ENTRY_SOURCE, Kind},
};

use crate::{
    classify::Class,
    code::Block,
    groups::{Groups, METADATA},
    modules::Module,
    scan::{Tree, What},
};

/// What a draft is made of.
pub(crate) struct Parts<'a> {
    /// Files, links, empty folders.
    pub(crate) tree: &'a Tree,
    /// What is placed together.
    pub(crate) groups: &'a Groups,
    /// What imports find.
    pub(crate) modules: &'a [Module],
    /// Their code.
    pub(crate) blocks: &'a [Block],
    /// ELF files and the libraries that each needs.
    pub(crate) needs: &'a BTreeMap<usize, Vec<usize>>,
}

/// Where an entry's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A block, by number.
    Block(usize),
    /// Something of the tree, by position.
    Tree(usize),
}

impl Parts<'_> {
    /// The draft, and where the content of each of its entries is.
    pub(crate) fn draft(&self) -> (Draft, Vec<Source>) {
        let mut code: Vec<Option<(u32, Option<u32>)>> = vec![None; self.modules.len()];
        for coded in self.blocks.iter().flat_map(|block| &block.modules) {
            code[coded.module] = Some((coded.len, coded.filename_at));
        }
        let flags = self.flags(&code);
        let mut positions: Vec<usize> = (0..self.tree.len()).collect();
        let is_hot = |position: usize| {
            self.groups.list[self.groups.of[position]].eager && flags[position] & ENTRY_LAZY == 0
        };
        positions.sort_by_cached_key(|&position| {
            let group = self.groups.of[position];
            let hot = is_hot(position);
            let metadata = hot && self.groups.list[group].name == METADATA;
            let lazy = flags[position] & ENTRY_LAZY != 0;
            let rank = (
                lazy,
                flags[position] & ENTRY_SOURCE != 0,
                self.groups.class[position],
            );
            (Reverse(hot), Reverse(metadata), group, rank, position)
        });
        let cold = positions.partition_point(|&position| is_hot(position));
        let (hot, cold) = positions.split_at(cold);
        let blocks = |tests| {
            let numbers = (0..self.blocks.len()).filter(move |&n| self.blocks[n].tests == tests);
            numbers.map(Source::Block)
        };
        let files = |positions: &'_ [usize]| positions.iter().copied().map(Source::Tree).collect();
        let (hot, cold): (Vec<Source>, Vec<Source>) = (files(hot), files(cold));
        let hot: Vec<Source> = blocks(false).chain(hot).collect();
        let hot_len = hot.len();
        let sources: Vec<Source> = hot.into_iter().chain(blocks(true)).chain(cold).collect();
        let (mut entry_of, mut block_entry) =
            (vec![0; self.tree.len()], vec![0; self.blocks.len()]);
        for (entry, source) in sources.iter().enumerate() {
            match *source {
                Source::Tree(position) => entry_of[position] = entry,
                Source::Block(number) => block_entry[number] = entry,
            }
        }
        let draft = Draft {
            entries: sources
                .iter()
                .map(|source| self.entry(*source, &flags))
                .collect(),
            hot: hot_len,
            modules: self.module_rows(&code, &entry_of),
            blocks: self
                .blocks
                .iter()
                .zip(&block_entry)
                .map(|(block, &entry)| DraftBlock {
                    entry,
                    modules: block.modules.len(),
                })
                .collect(),
            groups: self
                .groups
                .list
                .iter()
                .map(|group| DraftGroup {
                    name: group.name.clone(),
                    companions: group.companions.iter().copied().collect(),
                    eager: group.eager,
                })
                .collect(),
            needs: self
                .needs
                .iter()
                .filter(|(_, libraries)| !libraries.is_empty())
                .map(|(&file, libraries)| {
                    let libraries = libraries.iter().map(|&library| entry_of[library]);
                    (entry_of[file], libraries.collect())
                })
                .collect(),
        };
        (draft, sources)
    }

    /// The flags of each thing of the tree.
    fn flags(&self, code: &[Option<(u32, Option<u32>)>]) -> Vec<u16> {
        let large = self.groups.of_large_headers(self.tree);
        let lazy = |(class, group)| match class {
            Class::Development if large[group] => ENTRY_LAZY,
            _ => 0,
        };
        let classes = self.groups.class.iter().copied();
        let mut flags: Vec<u16> = classes
            .zip(self.groups.of.iter().copied())
            .map(lazy)
            .collect();
        for &file in self.needs.keys() {
            flags[file] |= ENTRY_ELF;
        }
        for (module, code) in self.modules.iter().zip(code) {
            if code.is_some() && self.groups.class[module.file] == Class::Source {
                flags[module.file] |= ENTRY_SOURCE;
            }
        }
        flags
    }

    fn entry(&self, source: Source, flags: &[u16]) -> DraftEntry {
        let position = match source {
            Source::Block(number) => {
                return DraftEntry {
                    path: self.blocks[number].path.clone(),
                    kind: Kind::Code,
                    mode: 0o644,
                    flags: 0,
                    group: None,
                };
            }
            Source::Tree(position) => position,
        };
        let found = self.tree.get(position);
        DraftEntry {
            path: found.map(|found| found.path.clone()).unwrap_or_default(),
            kind: match found.map(|found| &found.what) {
                Some(What::Link(_)) => Kind::Link,
                Some(What::Folder) => Kind::Folder,
                _ => Kind::File,
            },
            mode: found.map_or(0, |found| found.mode) & 0o777,
            flags: flags[position],
            group: Some(self.groups.of[position]),
        }
    }

    /// Modules with code in the order of their code, then the others.
    fn module_rows(
        &self,
        code: &[Option<(u32, Option<u32>)>],
        entry_of: &[usize],
    ) -> Vec<DraftModule> {
        let coded = self
            .blocks
            .iter()
            .flat_map(|block| &block.modules)
            .map(|coded| coded.module);
        let uncoded = (0..self.modules.len()).filter(|&number| code[number].is_none());
        coded
            .chain(uncoded)
            .map(|number| {
                let module = &self.modules[number];
                DraftModule {
                    folder: module.folder.clone(),
                    name: module.name.clone(),
                    kind: module.kind,
                    file: entry_of[module.file],
                    package: module.package,
                    code: code[number],
                    group: Some(self.groups.of[module.file]),
                }
            })
            .collect()
    }
}
