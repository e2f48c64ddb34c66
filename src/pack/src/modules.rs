//! What every `import` would find: the table that replaces searching.
//!
//! For each folder below `sys.path`, packages or not (they may be portions of namespace packages),
//! the names that `FileFinder` finds there, after its precedence: a package comes before a module,
//! and among files the suffixes of extensions come before `.py`, that before `.pyc`.

use std::collections::{BTreeMap, BTreeSet};

use pybundle_bundle::{name, record::ModuleKind};

use crate::{
    roots::{is_below, join},
    scan::{Node, Tree},
};

/// A module that an import finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// Path of the folder in which its name is looked up.
    pub(crate) folder: Vec<u8>,
    /// Last part of its name.
    pub(crate) name: Vec<u8>,
    /// How it is loaded.
    pub(crate) kind: ModuleKind,
    /// Position of its file, which may be a link.
    pub(crate) file: usize,
    /// Position of the file that holds its content.
    pub(crate) content: usize,
    /// It is a package: its file is `__init__` in the folder of its name.
    pub(crate) package: bool,
}

impl Module {
    /// It is the `__init__` of a package under its own name (`from . import __init__`).
    pub(crate) fn is_init(&self) -> bool {
        !self.package && self.name == b"__init__"
    }
}

/// The files and folders of a folder, by name.
#[derive(Default)]
struct Listing<'a> {
    /// Position of each file or link to one, and of its content.
    files: BTreeMap<&'a [u8], (usize, usize)>,
    folders: BTreeSet<&'a [u8]>,
}

/// All modules, sorted by folder and name.
pub(crate) fn find(
    tree: &Tree,
    sys_path: &[Vec<u8>],
    extension_suffixes: &[String],
) -> Vec<Module> {
    let suffixes: Vec<(&[u8], ModuleKind)> = extension_suffixes
        .iter()
        .map(|suffix| (suffix.as_bytes(), ModuleKind::Extension))
        .chain([
            (&b".py"[..], ModuleKind::Source),
            (b".pyc", ModuleKind::Sourceless),
        ])
        .collect();
    let listings = listings(tree, sys_path);
    let mut modules = Vec::new();
    for (&folder, listing) in &listings {
        let mut found: BTreeMap<&[u8], Module> = BTreeMap::new();
        let add = |name: &'_ [u8], listing: &Listing<'_>, stem: &[u8], suffix: usize, package| {
            let (suffix, kind) = suffixes[suffix];
            let &(file, content) = listing.files.get([stem, suffix].concat().as_slice())?;
            Some(Module {
                folder: folder.to_vec(),
                name: name.to_vec(),
                kind,
                file,
                content,
                package,
            })
        };
        for &name in &listing.folders {
            if name.contains(&b'.') {
                continue;
            }
            let inside = listings.get(join(folder, name).as_slice());
            let module = inside.and_then(|inside| {
                (0..suffixes.len()).find_map(|suffix| add(name, inside, b"__init__", suffix, true))
            });
            if let Some(module) = module {
                found.insert(name, module);
            }
        }
        for (number, (suffix, _)) in suffixes.iter().enumerate() {
            for &file in listing.files.keys() {
                let Some(name) = file.strip_suffix(*suffix) else {
                    continue;
                };
                // The last part of a dotted name: never empty, never with a dot.
                if name.is_empty() || name.contains(&b'.') || found.contains_key(name) {
                    continue;
                }
                if let Some(module) = add(name, listing, name, number, false) {
                    found.insert(name, module);
                }
            }
        }
        modules.extend(found.into_values());
    }
    modules
}

/// Every folder at or below one of `sys.path`, with what it holds.
fn listings<'a>(tree: &'a Tree, sys_path: &[Vec<u8>]) -> BTreeMap<&'a [u8], Listing<'a>> {
    let mut listings: BTreeMap<&[u8], Listing<'_>> = BTreeMap::new();
    for (position, found) in tree.iter().enumerate() {
        let (above, last) = name::split(&found.path);
        let importable = |path: &[u8]| sys_path.iter().any(|folder| is_below(path, folder));
        if !importable(above) {
            continue;
        }
        if let Some(Node::File(content)) = tree.resolve(&found.path) {
            let listing = listings.entry(above).or_default();
            listing.files.insert(last, (position, content));
        }
        // Folders have no rows of their own: each is known from what lies in it.
        let mut path = above;
        loop {
            let (parent, last) = name::split(path);
            if path.is_empty() || !importable(parent) {
                break;
            }
            let folders = &mut listings.entry(parent).or_default().folders;
            if !folders.insert(last) {
                break;
            }
            path = parent;
        }
    }
    listings
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::scan::{Found, Stamp, What};

    fn tree(paths: &[&str]) -> Tree {
        let stamp = Stamp {
            size: 1,
            ..Stamp::default()
        };
        let found = paths.iter().map(|path| {
            let (path, what) = match path.split_once(" -> ") {
                Some((path, target)) => (path, What::Link(target.into())),
                None => (*path, What::File(stamp)),
            };
            Found {
                path: path.into(),
                source: PathBuf::new(),
                mode: 0,
                what,
            }
        });
        Tree::new(found.collect())
    }

    fn names(paths: &[&str]) -> Vec<String> {
        let tree = tree(paths);
        let suffixes = [".cpython-311.so", ".abi3.so", ".so"].map(String::from);
        find(&tree, &[b"sp".to_vec()], &suffixes)
            .iter()
            .map(|module| {
                format!(
                    "{}:{}={}",
                    name::escape(&module.folder),
                    name::escape(&module.name),
                    name::escape(&tree.get(module.file).unwrap().path)
                )
            })
            .collect()
    }

    #[test]
    fn precedence_is_that_of_file_finder() {
        assert_eq!(
            names(&[
                "sp/a/__init__.py",
                "sp/a.py",
                "sp/b.py",
                "sp/b.so",
                "sp/b.abi3.so",
                "sp/c.pyc",
                "sp/d/__init__.cpython-311.so",
                "sp/d/__init__.py",
                "sp/n/m.py",
                "sp/x.y.py",
                "sp/e/__init__.pyc",
                "sp/e.py",
                "other/z.py",
                "sp/l.py -> ../other/z.py",
                "sp/lost.py -> ../other/none.py",
                "sp/.py",
            ]),
            [
                "sp:a=sp/a/__init__.py",
                "sp:b=sp/b.abi3.so",
                "sp:c=sp/c.pyc",
                "sp:d=sp/d/__init__.cpython-311.so",
                "sp:e=sp/e/__init__.pyc",
                "sp:l=sp/l.py",
                "sp/a:__init__=sp/a/__init__.py",
                "sp/d:__init__=sp/d/__init__.cpython-311.so",
                "sp/e:__init__=sp/e/__init__.pyc",
                "sp/n:m=sp/n/m.py",
            ]
        );
    }

    #[test]
    fn a_link_is_the_file_and_its_target_the_content() {
        let tree = tree(&["other/z.py", "sp/l.py -> ../other/z.py"]);
        let modules = find(&tree, &[b"sp".to_vec()], &[]);
        assert_eq!((modules[0].file, modules[0].content), (1, 0));
    }
}
