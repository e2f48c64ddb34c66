//! Finds for every needed name the file that `ld.so` would load on this machine.
//!
//! Searched in `ld.so`'s order: the file's RPATH and those of the files that load it
//! (only without RUNPATH), `LD_LIBRARY_PATH`, RUNPATH, the environment's folders (for the
//! RPATH of its interpreter), the system's. At last a file of the environment whose
//! SONAME fits: some packages open their libraries themselves before they are needed.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::{
    host::{Host, Yields},
    scan::{Object, Scan, scan},
    search::{Folders, SearchPath, expand},
};

/// An ELF file and what its needed names mean.
#[derive(Debug)]
pub struct Library {
    /// Absolute path: as it was given, or without links if it lies outside.
    pub path: PathBuf,
    /// What the file says.
    pub scan: Scan,
    /// It wasn't given, but found elsewhere: it has to travel too.
    pub outside: bool,
    /// One for each of `scan.needed`, in order.
    pub dependencies: Vec<Dependency>,
}

/// A needed name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// As the file says it (DT_NEEDED).
    pub name: String,
    /// Where it is.
    pub place: Place,
}

/// Where a needed library is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// One of [`Libraries::all`], by index.
    Library(usize),
    /// The host provides it.
    Host(Host),
    /// Nowhere: the file can't be loaded unless something else loads it first.
    Missing,
}

/// The answers for all files.
#[derive(Debug)]
pub struct Libraries {
    pub(super) all: Vec<Library>,
    index: HashMap<PathBuf, usize>,
}

impl Libraries {
    /// The files that were given, in that order, then those found outside.
    pub fn all(&self) -> &[Library] {
        &self.all
    }

    /// The index of the file of a path, with or without links.
    pub fn index_of(&self, path: &Path) -> Option<usize> {
        self.index.get(path).copied()
    }

    /// Files that weren't given, but have to travel too.
    pub fn outside(&self) -> impl Iterator<Item = &Library> {
        self.all.iter().filter(|library| library.outside)
    }

    /// Names that nothing provides, with the files that need them.
    pub fn missing(&self) -> impl Iterator<Item = (&Library, &str)> {
        self.all.iter().flat_map(|library| {
            let missing = library
                .dependencies
                .iter()
                .filter(|it| it.place == Place::Missing);
            missing.map(move |dependency| (library, dependency.name.as_str()))
        })
    }
}

/// Collects an environment's ELF files and resolves their names.
#[derive(Debug)]
pub struct Resolver {
    search: SearchPath,
    libraries: Vec<Library>,
    /// By path, and by path without links.
    index: HashMap<PathBuf, usize>,
    folders: Folders,
    /// Of each file: those that load it.
    loaders: Vec<Vec<usize>>,
}

/// Which folders to search for a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Those that the file itself, the variable and the environment name.
    Own,
    /// Those in the RPATH of the files that load this one.
    Loaders,
    /// The system's, then any file of the environment with this name.
    Last,
}

impl Resolver {
    /// A resolver without files.
    pub fn new(search: SearchPath) -> Self {
        Self {
            search,
            libraries: Vec::new(),
            index: HashMap::new(),
            folders: Folders::default(),
            loaders: Vec::new(),
        }
    }

    /// Adds a file of the environment; `path` is absolute. A file that several
    /// links name is added once.
    pub fn add(&mut self, path: PathBuf, scan: Scan) {
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        if let Some(&known) = self.index.get(&real) {
            self.index.insert(path, known);
        } else {
            self.index.insert(real, self.libraries.len());
            self.push(path, scan, false);
        }
    }

    /// Resolves all names, those of the files found on the way included.
    pub fn resolve(mut self) -> Libraries {
        let mut done = 0;
        // Needs that are still open: a file and the number of its name.
        let mut open: Vec<(usize, usize)> = Vec::new();
        while done < self.libraries.len() || !open.is_empty() {
            while done < self.libraries.len() {
                let names = 0..self.libraries[done].dependencies.len();
                open.extend(names.map(|name| (done, name)));
                open.retain(|&need| need.0 != done || !self.settle(need, Stage::Own));
                done += 1;
            }
            // Who loads a file is known only when others are settled.
            let before = open.len();
            open.retain(|&need| !self.settle(need, Stage::Loaders));
            if open.len() < before {
                continue;
            }
            for need in std::mem::take(&mut open) {
                self.settle(need, Stage::Last);
            }
        }
        Libraries {
            all: self.libraries,
            index: self.index,
        }
    }

    /// Tries to find one name; true if that is done.
    fn settle(&mut self, (file, number): (usize, usize), stage: Stage) -> bool {
        let name = self.libraries[file].dependencies[number].name.clone();
        let place = match stage {
            Stage::Own => self.find_own(file, &name),
            Stage::Loaders => self.find_by_loaders(file, &name),
            Stage::Last => Some(self.find_last(file, &name)),
        };
        let Some(place) = place else { return false };
        self.libraries[file].dependencies[number].place = place;
        if let Place::Library(found) = place {
            self.loaders[found].push(file);
        }
        true
    }

    fn find_own(&mut self, file: usize, name: &str) -> Option<Place> {
        let host = Host::of(name);
        if let Some(host) = host.filter(|host| host.yields() == Yields::Never) {
            return Some(Place::Host(host));
        }
        if name.contains('/') {
            // No search. A relative path depends on the working directory.
            let found = self.accept(file, Path::new(name), host);
            return Some(found.map_or(Place::Missing, Place::Library));
        }
        let scan = &self.libraries[file].scan;
        let mut folders = Vec::new();
        if scan.runpath.is_none() {
            folders.extend(self.expanded(file, &scan.rpath));
        }
        folders.extend(self.search.variable.iter().cloned());
        folders.extend(self.expanded(file, scan.runpath.as_deref().unwrap_or_default()));
        folders.extend(self.search.environment.iter().cloned());
        self.find_in(file, name, &folders, host).map(Place::Library)
    }

    fn find_by_loaders(&mut self, file: usize, name: &str) -> Option<Place> {
        if self.libraries[file].scan.runpath.is_some() || name.contains('/') {
            return None;
        }
        let mut seen = vec![false; self.libraries.len()];
        seen[file] = true;
        let mut chain = vec![file];
        let mut next = 0;
        while let Some(&current) = chain.get(next) {
            next += 1;
            let scan = &self.libraries[current].scan;
            if current != file && scan.runpath.is_none() {
                let folders: Vec<PathBuf> = self.expanded(current, &scan.rpath).collect();
                if let Some(found) = self.find_in(file, name, &folders, Host::of(name)) {
                    return Some(Place::Library(found));
                }
            }
            let above = self.loaders[current].iter();
            chain.extend(above.filter(|&&loader| !std::mem::replace(&mut seen[loader], true)));
        }
        None
    }

    fn find_last(&mut self, file: usize, name: &str) -> Place {
        if let Some(host) = Host::of(name) {
            return Place::Host(host);
        }
        let folders = self.search.system.clone();
        self.find_in(file, name, &folders, None)
            .or_else(|| self.find_by_soname(file, name))
            .map_or(Place::Missing, Place::Library)
    }

    /// The file of the environment of this SONAME or file name that is nearest to `file`.
    fn find_by_soname(&self, file: usize, name: &str) -> Option<usize> {
        let user = &self.libraries[file];
        let same = |library: &Library| {
            library.scan.machine == user.scan.machine
                && !library.scan.program
                && (library.scan.soname.as_deref() == Some(name)
                    || library.path.file_name().is_some_and(|file| file == name))
        };
        let candidates = self
            .libraries
            .iter()
            .enumerate()
            .filter(|(_, library)| same(library));
        let nearest = candidates.min_by_key(|(_, library)| {
            let pairs = user.path.components().zip(library.path.components());
            let shared = pairs.take_while(|(a, b)| a == b).count();
            (std::cmp::Reverse(shared), &library.path)
        });
        nearest.map(|(index, _)| index)
    }

    fn find_in(
        &mut self,
        file: usize,
        name: &str,
        folders: &[PathBuf],
        host: Option<Host>,
    ) -> Option<usize> {
        folders.iter().find_map(|path| {
            let folder = self.folders.get(path)?;
            if !folder.has(name) {
                return None;
            }
            self.accept(file, &folder.path.join(name), host)
        })
    }

    /// The file at a path if `ld.so` would take it for `user` and the host doesn't provide it.
    fn accept(&mut self, user: usize, path: &Path, host: Option<Host>) -> Option<usize> {
        let machine = self.libraries[user].scan.machine;
        let real = path.canonicalize().ok()?;
        if let Some(&known) = self.index.get(path).or_else(|| self.index.get(&real)) {
            let library = &self.libraries[known];
            let may = !library.outside || may_travel(host);
            return (library.scan.machine == machine && may).then_some(known);
        }
        if !may_travel(host) || self.in_system_folder(path, host) || !real.is_file() {
            return None;
        }
        // What can't be read or isn't ELF (a linker script) is passed over, as `ld.so` does.
        let Ok(Object::Native(scan)) = scan(&fs_err::read(&real).ok()?) else {
            return None;
        };
        if scan.machine != machine {
            return None;
        }
        let found = self.push(real, *scan, true);
        self.index.insert(path.to_owned(), found);
        Some(found)
    }

    /// A library that the system's folders may provide lies there, whoever names the folder.
    fn in_system_folder(&mut self, path: &Path, host: Option<Host>) -> bool {
        host.is_some()
            && self.search.system.iter().any(|system| {
                let folder = self.folders.get(system);
                folder.is_some_and(|folder| path.parent() == Some(folder.path.as_path()))
            })
    }

    fn expanded<'a>(
        &'a self,
        file: usize,
        elements: &'a [String],
    ) -> impl Iterator<Item = PathBuf> + 'a {
        let origin = self.libraries[file].path.parent().unwrap_or(Path::new("/"));
        elements
            .iter()
            .filter_map(move |element| expand(element, origin))
    }

    fn push(&mut self, path: PathBuf, scan: Scan, outside: bool) -> usize {
        let index = self.libraries.len();
        let names = scan.needed.iter();
        let dependencies = names
            .map(|name| Dependency {
                name: name.clone(),
                place: Place::Missing,
            })
            .collect();
        self.index.insert(path.clone(), index);
        self.libraries.push(Library {
            path,
            scan,
            outside,
            dependencies,
        });
        self.loaders.push(Vec::new());
        index
    }
}

/// A file from outside may stand in for a library that the host provides.
fn may_travel(host: Option<Host>) -> bool {
    host.is_none_or(|host| host.yields() == Yields::ToNamedFolder)
}
