//! The interpreter's own files, which travel with its standard library.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use fs_err as fs;

use crate::{
    Result,
    compile::Interpreter,
    groups::Groups,
    roots::{Roots, join, relative},
    scan::{Found, Scanner, Tree, What},
    site::Site,
};

/// The executable and libpython, as far as they are packed.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// The executable.
    pub(crate) executable: Option<Member>,
    /// The shared library that programs can start Python from.
    pub(crate) libpython: Option<Member>,
    /// Prefix that they were built for.
    prefix: PathBuf,
}

/// One of the interpreter's own files.
#[derive(Debug)]
pub(crate) struct Member {
    /// Where it lies, symlinks resolved.
    pub(crate) real: PathBuf,
    /// Its path in the bundle.
    pub(crate) path: Vec<u8>,
}

impl Own {
    /// Finds the files if the standard library is packed, and gives them places: those of the base
    /// prefix keep theirs below it.
    pub(crate) fn find(python: &Interpreter, site: &Site, roots: &mut Roots) -> Self {
        if site.stdlib.is_empty() {
            return Self::default();
        }
        let prefix = fs::canonicalize(&python.base_prefix);
        let prefix = prefix.unwrap_or_else(|_| python.base_prefix.clone());
        let mut member = |file: PathBuf, folder: &str| {
            let real = fs::canonicalize(&file).ok().filter(|path| path.is_file())?;
            // Others know a library by this name, whatever its links lead to.
            let last = if folder == "lib" {
                file.file_name()?
            } else {
                real.file_name()?
            };
            let place = match real.parent() {
                Some(above) if above.starts_with(&prefix) => above.join(last),
                _ => prefix.join(folder).join(last),
            };
            let path = match roots.bundle_path(&place) {
                Some(path) => path,
                None => roots.base_path(&prefix, &place),
            };
            Some(Member { real, path })
        };
        let executable = member(python.real_executable.clone(), "bin");
        let libpython = libraries(python).find_map(|file| member(file, "lib"));
        Self {
            executable,
            libpython,
            prefix,
        }
    }

    /// The path in the bundle of one of the files, by its place here with symlinks resolved.
    pub(crate) fn bundle_path(&self, real: &Path) -> Option<&[u8]> {
        let mut members = self.members();
        let member = members.find(|member| member.real == real)?;
        Some(&member.path)
    }

    /// Where the executable, if this path in the bundle is its, is to look for its library first:
    /// wherever it was built for, whatever Python's libraries a job's environment leads to.
    pub(crate) fn library_folder(&self, path: &[u8]) -> Option<String> {
        let executable = self.executable.as_ref();
        let executable = executable.filter(|member| member.path == path)?;
        let folder = pybundle_bundle::name::split(&self.libpython.as_ref()?.path).0;
        let way = relative(&executable.path, folder);
        let way = String::from_utf8(way).ok()?;
        Some(format!("$ORIGIN/{way}"))
    }

    /// Those that are packed.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        [&self.executable, &self.libpython].into_iter().flatten()
    }

    /// The files themselves, and the executable's usual names, where no root holds them.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    pub(crate) fn found(&self) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for member in self.members() {
            found.push(Scanner::one(&member.real, member.path.clone())?);
        }
        if let Some(executable) = &self.executable {
            let folder = pybundle_bundle::name::split(&executable.path).0;
            for name in ["python3", "python"] {
                let path = join(folder, name.as_bytes());
                if path != executable.path {
                    found.push(Found {
                        what: What::Link(relative(&path, &executable.path)),
                        source: executable.real.clone(),
                        mode: 0o777,
                        path,
                    });
                }
            }
        }
        Ok(found)
    }

    /// Positions of ELF files that may name the prefix they were built for: these two, and the
    /// standard library's.
    pub(crate) fn built_for_prefix(
        &self,
        tree: &Tree,
        groups: &Groups,
        native: impl Iterator<Item = usize>,
    ) -> HashSet<usize> {
        let members = self.members();
        let members = members.filter_map(|member| tree.find(&member.path));
        native
            .filter(|&position| groups.stdlib[position])
            .chain(members)
            .collect()
    }

    /// The path below the prefix of what lies at `real`, and the prefix.
    pub(crate) fn place<'a>(&'a self, real: &'a Path) -> Option<(&'a Path, &'a Path)> {
        Some((real.strip_prefix(&self.prefix).ok()?, &self.prefix))
    }
}

/// Where libpython may be: where the executable has it from its build, or where distributors put
/// it.
fn libraries(python: &Interpreter) -> impl Iterator<Item = PathBuf> + '_ {
    let name = python.soname.as_deref().filter(|name| {
        let is_library = crate::classify::is_library_name(name.as_bytes());
        name.starts_with("libpython") && is_library
    });
    let base = Some(python.base_prefix.join("lib"));
    let folders = [base, python.library_folder.clone()];
    folders.into_iter().flatten().flat_map(move |folder| {
        let multiarch = python.multiarch.as_ref().map(|name| folder.join(name));
        let folders = [Some(folder), multiarch].into_iter().flatten();
        folders.filter_map(move |folder| Some(folder.join(name?)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_without_the_standard_library() {
        let own = Own::default();
        assert!(own.found().is_ok_and(|found| found.is_empty()));
        assert_eq!(own.bundle_path(Path::new("/p/bin/python3")), None);
    }
}
