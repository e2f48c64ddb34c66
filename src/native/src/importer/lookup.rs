//! Questions to the index: what a path names, what a folder has for a name, whose file a path is.

use std::os::unix::ffi::OsStrExt as _;

use pybundle_bundle::{
    name,
    record::{Kind, Module, Node, some},
};

use super::{claims, state::State};

/// Links on the way to a path, before it counts as a loop.
const LINKS: u32 = 40;

/// What the bundle says of a claimed path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A folder, by its row.
    Folder(u32),
    /// A folder without anything in it.
    Empty,
    /// A file, by its entry's row.
    File(u32),
    /// Nothing: it doesn't exist.
    Absent,
}

/// What a folder has for the last part of a module's name.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// A module, by its row.
    Module(u32, Module),
    /// A folder without `__init__`, by its path inside the bundle: a portion of a namespace package.
    Portion(Vec<u8>),
}

impl State {
    /// What a path names, and the path inside the bundle; `None` if the bundle doesn't answer
    /// for it.
    pub(crate) fn place_of(&self, path: &[u8]) -> Option<(Place, Vec<u8>)> {
        let claimed = self.claims.claim(path)?;
        let place = self.resolve(&claimed.inside);
        if place == Place::Absent && !claimed.whole {
            return None;
        }
        Some((place, claimed.inside))
    }

    /// What a path inside the bundle names, links followed.
    pub(crate) fn resolve(&self, inside: &[u8]) -> Place {
        self.follow(inside, LINKS)
    }

    fn follow(&self, inside: &[u8], links: u32) -> Place {
        let index = self.image.index();
        match index.find(inside) {
            Some(Node::Folder(row)) => return Place::Folder(row),
            Some(Node::Entry(row)) if !self.is_link(row) => {
                return match index
                    .entry(row)
                    .and_then(|entry| Kind::from_number(entry.kind))
                {
                    Some(Kind::File) => Place::File(row),
                    Some(Kind::Folder) => Place::Empty,
                    _ => Place::Absent,
                };
            }
            _ => {}
        }
        if links == 0 {
            return Place::Absent;
        }
        // One of the names on the way is a link: put its target in its place.
        let ends = inside
            .iter()
            .enumerate()
            .filter(|&(_, &byte)| byte == b'/')
            .map(|(at, _)| at)
            .chain([inside.len()]);
        for end in ends {
            let (above, rest) = (&inside[..end], inside[end..].strip_prefix(b"/"));
            match index.find(above) {
                Some(Node::Folder(_)) => {}
                Some(Node::Entry(row)) if self.is_link(row) => {
                    return self.link_target(above).map_or(Place::Absent, |target| {
                        self.follow(&claims::join(&target, rest.unwrap_or(&[])), links - 1)
                    });
                }
                _ => return Place::Absent,
            }
        }
        Place::Absent
    }

    /// The file that a path names or goes through: a zip file on `sys.path`.
    pub(crate) fn file_above(&self, inside: &[u8]) -> Option<u32> {
        let mut path = inside;
        while !path.is_empty() {
            match self.resolve(path) {
                Place::File(row) => return Some(row),
                Place::Folder(_) | Place::Empty => return None,
                Place::Absent => path = name::split(path).0,
            }
        }
        None
    }

    fn is_link(&self, row: u32) -> bool {
        let entry = self.image.index().entry(row);
        entry.is_some_and(|entry| entry.kind == Kind::Link as u8)
    }

    /// The path inside the bundle that a link names.
    fn link_target(&self, link: &[u8]) -> Option<Vec<u8>> {
        let path = self.tree_path(link);
        let target = path.read_link().or_else(|error| {
            // Nothing of its distribution has been needed so far.
            let Some(Node::Entry(row)) = self.image.index().find(link) else {
                return Err(error);
            };
            self.image.place_entry(row).map_err(|_| error)?;
            path.read_link()
        });
        let target = target.ok()?;
        let target = target.as_os_str().as_bytes();
        let path = if target.starts_with(b"/") {
            target.to_vec()
        } else {
            let folder = self.tree_path(name::split(link).0);
            [folder.as_os_str().as_bytes(), b"/", target].concat()
        };
        Some(self.claims.claim(&path)?.inside)
    }

    /// What a folder has for the last part of a module's name.
    pub(crate) fn find_in(&self, folder: u32, tail: &[u8]) -> Option<Found> {
        // What no file name is, a path made of it could still be.
        if tail.is_empty() || tail.contains(&b'/') {
            return None;
        }
        let index = self.image.index();
        if let Some((row, module)) = index.find_module(folder, tail) {
            return Some(Found::Module(row, module));
        }
        if tail == b"__init__" {
            return self.own_init(folder);
        }
        let path = claims::join(index.path(Node::Folder(folder))?, tail);
        // Most absent names are answered here, by one probe.
        index.find(&path)?;
        match self.resolve(&path) {
            // A package behind a link: its code is known under its real folder.
            Place::Folder(row) => self.own_init(row).or(Some(Found::Portion(path))),
            Place::Empty => Some(Found::Portion(path)),
            Place::File(_) | Place::Absent => None,
        }
    }

    /// The package that a folder is, if it is one: `import package.__init__`.
    pub(crate) fn own_init(&self, folder: u32) -> Option<Found> {
        let index = self.image.index();
        let record = index.folder(folder)?;
        let last = name::split(index.text(record.path)).1;
        let (row, module) = index.find_module(some(record.parent)?, last)?;
        (module.package == folder).then_some(Found::Module(row, module))
    }

    /// The original folders of the root that a path inside the bundle lies below, each with the
    /// rest of the path.
    pub(crate) fn originals<'a>(
        &'a self,
        inside: &'a [u8],
    ) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let roots = &self.image.manifest().roots;
        let other = claims::is_other_root(inside);
        roots
            .iter()
            .filter(move |root| root.folder.is_empty() != other)
            .filter_map(move |root| Some((root, claims::below(root.folder.as_bytes(), inside)?)))
            .flat_map(|(root, rest)| root.paths.iter().map(move |path| (path.as_str(), rest)))
    }

    /// The module whose file lies at a path, as a loader's `path` says it.
    pub(crate) fn module_at(&self, path: &str) -> Option<(u32, Module)> {
        let inside = match path.strip_prefix(self.tree.as_str()) {
            Some(rest) => rest.strip_prefix('/')?.as_bytes().to_vec(),
            None => self.claims.claim(path.as_bytes())?.inside,
        };
        let index = self.image.index();
        let (folder, file) = name::split(&inside);
        let folder = index.find_folder(folder)?;
        let stem = file.split(|&byte| byte == b'.').next()?;
        // A package's code is known under its own name, not as `__init__` in its folder.
        let init = (stem == b"__init__")
            .then(|| self.own_init(folder))
            .flatten();
        let Found::Module(row, module) = init.or_else(|| self.find_in(folder, stem))? else {
            return None;
        };
        let entry = index.entry(module.file)?;
        (index.text(entry.path) == inside).then_some((row, module))
    }
}
