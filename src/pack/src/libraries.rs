//! Which files are ELF, what each needs to be loaded, and what that says of the bundle.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use pybundle_bundle::{manifest::MpiNeed, name, pipeline};
use serde::{Deserialize, Serialize};

use crate::{
    Phase, Progress, Result,
    classify::Class,
    compile::Interpreter,
    content,
    elf::{Libraries, Object, Resolver, Scan, SearchPath, scan},
    interpreter::Own,
    previous::Previous,
    scan::{Found, Tree, What, is_host},
    site::Site,
};

/// As many files are named where a message could name hundreds.
const NAMED: usize = 3;

/// The shared libraries of an environment, resolved.
pub(crate) struct Shared {
    libraries: Libraries,
    /// Path here to path in the bundle, for what was given.
    given: HashMap<PathBuf, Vec<u8>>,
    /// What was read, by path in the bundle.
    seen: HashMap<Vec<u8>, Read>,
    /// Sentences about files that can't be loaded here.
    warnings: Vec<String>,
}

/// Reads all files that may be ELF and resolves what they need.
///
/// # Errors
/// [`crate::Error`] for a file that changed or can't be read.
pub(crate) fn resolve(
    tree: &Tree,
    class: &[Class],
    python: &Interpreter,
    previous: Option<&Previous>,
    jobs: usize,
    progress: &dyn Progress,
) -> Result<Shared> {
    let candidates: Vec<&Found> = tree
        .iter()
        .zip(class)
        .filter(|(found, class)| **class == Class::Native && matches!(found.what, What::File(_)))
        .map(|(found, _)| found)
        .collect();
    let folders = [&python.prefix, &python.base_prefix].map(|prefix| prefix.join("lib"));
    let folders = folders
        .into_iter()
        .filter(|path| path.is_dir() && !is_host(path));
    let mut resolver = Resolver::new(SearchPath::of_this_machine(folders.collect()));
    let mut given = HashMap::new();
    let mut seen = HashMap::new();
    let mut foreign: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let total = candidates.len() as u64;
    let done = AtomicU64::new(0);
    pipeline::run(
        jobs,
        &candidates,
        |found| match found.what {
            What::File(stamp) => stamp.size,
            _ => 0,
        },
        || Ok(()),
        |(), found| {
            let known = previous.and_then(|previous| previous.elf(found));
            let object = known.cloned().map_or_else(|| read(found), Ok)?;
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            progress.update(Phase::Libraries, done, Some(total));
            Ok::<_, crate::Error>((object, 0))
        },
        |number, object| {
            let found = candidates[number];
            seen.insert(found.path.clone(), object.clone());
            match object {
                Read::Nothing => {}
                Read::Native(scan) => {
                    given.insert(found.source.clone(), found.path.clone());
                    resolver.add(found.source.clone(), *scan);
                }
                Read::Strange(what) => {
                    foreign
                        .entry(what)
                        .or_default()
                        .push(name::escape(&found.path));
                }
            }
            Ok(())
        },
    )?;
    let warnings = foreign
        .into_iter()
        .map(|(what, files)| format!("not for this machine ({what}): {}", several(&files)))
        .collect();
    Ok(Shared {
        libraries: resolver.resolve(),
        given,
        seen,
        warnings,
    })
}

/// A file that may be ELF.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Read {
    Nothing,
    Native(Box<Scan>),
    /// ELF that can't be loaded, and why.
    Strange(String),
}

fn read(found: &Found) -> Result<Read> {
    Ok(match scan(&content::read(found)?) {
        Ok(Object::NotElf) => Read::Nothing,
        Ok(Object::Native(scan)) => Read::Native(scan),
        Ok(Object::Foreign(what)) => Read::Strange(what),
        Err(error) => Read::Strange(error.to_string()),
    })
}

impl Shared {
    /// What was read of each file that may be ELF, by path in the bundle.
    pub(crate) fn seen(&self) -> &HashMap<Vec<u8>, Read> {
        &self.seen
    }

    /// Libraries from outside the environment that have to travel too. Python itself and its
    /// standard library only serve where that build runs, which has the host's libraries.
    pub(crate) fn outside(&self, site: &Site, own: &Own) -> BTreeSet<&Path> {
        let mut found = BTreeSet::new();
        for (source, path) in &self.given {
            let standard = site.is_stdlib(path) || own.bundle_path(source).is_some();
            let number = self.libraries.index_of(source);
            for needed in number
                .into_iter()
                .flat_map(|number| self.libraries.load_order(number))
            {
                let library = &self.libraries.all()[needed];
                let path = library.path.as_path();
                if library.outside && !is_libpython(path) && !(standard && is_host(path)) {
                    found.insert(path);
                }
            }
        }
        found
    }

    /// Positions of ELF files, each with those of the libraries to open before it, dependencies
    /// first. `outside` is where libraries from outside went in the bundle.
    pub(crate) fn needs(
        &self,
        tree: &Tree,
        outside: &HashMap<PathBuf, Vec<u8>>,
    ) -> BTreeMap<usize, Vec<usize>> {
        let positions: Vec<Option<usize>> = self
            .libraries
            .all()
            .iter()
            .map(|library| {
                let path = self
                    .given
                    .get(&library.path)
                    .or_else(|| outside.get(&library.path));
                path.and_then(|path| tree.find(path))
            })
            .collect();
        let mut needs = BTreeMap::new();
        for (number, position) in positions.iter().enumerate() {
            if let Some(position) = *position {
                let order = self.libraries.load_order(number).into_iter();
                let order = order.filter(|&number| {
                    let library = &self.libraries.all()[number];
                    !is_libpython(&library.path)
                });
                let order = order.filter_map(|number| positions[number]);
                needs.insert(position, order.collect());
            }
        }
        // A file under several names was resolved under one of them.
        for (source, path) in &self.given {
            let number = self.libraries.index_of(source);
            let twin = number.and_then(|number| positions[number]);
            if let (Some(position), Some(twin)) = (tree.find(path), twin)
                && position != twin
            {
                let order = needs.get(&twin).cloned().unwrap_or_default();
                needs.insert(position, order);
            }
        }
        needs
    }

    /// What tells the interpreter's build: the build IDs of its own files.
    pub(crate) fn builds(&self, own: &Own) -> Vec<String> {
        let builds = own.members().filter_map(|member| {
            let number = self.libraries.index_of(&member.real)?;
            self.libraries.all()[number].scan.build_id.clone()
        });
        builds.collect()
    }

    /// The oldest glibc that has what all files need.
    pub(crate) fn glibc(&self) -> Option<String> {
        let all = self.libraries.all().iter();
        all.filter_map(|library| library.scan.glibc)
            .max()
            .map(|version| version.to_string())
    }

    /// The MPI libraries that files need; an empty name for modules that take any.
    pub(crate) fn mpi(&self) -> Vec<MpiNeed> {
        let sets = self.libraries.mpi_needed();
        let single = |name: &str| sets.iter().any(|set| set.len() == 1 && set.contains(name));
        let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for library in self.libraries.mpi_users() {
            let Some(path) = self.given.get(&library.path) else {
                continue;
            };
            let mut names: BTreeSet<String> = library
                .scan
                .needed
                .iter()
                .filter(|name| single(name))
                .cloned()
                .collect();
            if names.is_empty() {
                names.insert(String::new());
            }
            for name in names {
                needs.entry(name).or_default().insert(name::escape(path));
            }
        }
        needs
            .into_iter()
            .map(|(library, by)| MpiNeed {
                library,
                by: by.into_iter().take(NAMED).collect(),
            })
            .collect()
    }

    /// What may go wrong, in sentences.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut missing: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (library, name) in self.libraries.missing() {
            let path = self.given.get(&library.path).map(|path| name::escape(path));
            let path = path.unwrap_or_else(|| library.path.to_string_lossy().into_owned());
            missing.entry(name).or_default().insert(path);
        }
        let missing = missing.into_iter().map(|(name, files)| {
            let files: Vec<String> = files.into_iter().collect();
            format!("`{name}` is found nowhere, needed by {}", several(&files))
        });
        let mpi = self.mpi();
        let named: Vec<&str> = mpi
            .iter()
            .map(|need| need.library.as_str())
            .filter(|library| !library.is_empty())
            .collect();
        let mixed = (named.len() > 1).then(|| {
            format!(
                "modules need different MPI libraries, one process can have one: {}",
                named.join(", ")
            )
        });
        self.warnings
            .iter()
            .cloned()
            .chain(missing)
            .chain(mixed)
            .collect()
    }
}

/// An interpreter has the library that it is, or is linked against, already.
fn is_libpython(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy());
    name.is_some_and(|name| name.starts_with("libpython"))
}

/// The first of them, and how many more.
fn several(files: &[String]) -> String {
    let named: Vec<String> = files
        .iter()
        .take(NAMED)
        .map(|file| format!("`{file}`"))
        .collect();
    let more = files.len().saturating_sub(NAMED);
    let rest = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    named.join(", ") + &rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_stay_short() {
        let files: Vec<String> = (0..5).map(|n| n.to_string()).collect();
        assert_eq!(several(&files), "`0`, `1`, `2` and 2 more");
        assert_eq!(several(&files[..1]), "`0`");
    }
}
