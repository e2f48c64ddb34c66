//! Which MPI libraries an environment needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{
    host::Host,
    resolve::{Libraries, Library},
};

impl Libraries {
    /// Files that call MPI: those that need one of its libraries or call its functions.
    /// Those of an MPI installation itself are left out, and pybundle's own plug-ins: of these a
    /// job loads the one that fits its MPI, and only before the program begins.
    pub fn mpi_users(&self) -> impl Iterator<Item = &Library> {
        self.all.iter().filter(|library| {
            !belongs_to_mpi(library)
                && !is_plugin(library)
                && (library.scan.calls_mpi || needed(library).next().is_some())
        })
    }

    /// SONAMEs of the MPI libraries that are needed. Of each set one is enough: it has
    /// several where a package brings one extension module for each MPI, of which it
    /// imports one (mpi4py).
    pub fn mpi_needed(&self) -> BTreeSet<BTreeSet<String>> {
        let mut modules: BTreeMap<(&Path, &str), Vec<&Library>> = BTreeMap::new();
        for library in self.mpi_users() {
            modules.entry(module(library)).or_default().push(library);
        }
        let mut sets = BTreeSet::new();
        for libraries in modules.values() {
            if let [library] = libraries[..] {
                sets.extend(main_names(library).map(|name| BTreeSet::from([name.to_owned()])));
            } else {
                let names = libraries.iter().flat_map(|library| main_names(library));
                sets.insert(names.map(str::to_owned).collect());
            }
        }
        sets.remove(&BTreeSet::new());
        sets
    }
}

/// The folder and the name of the module that a file would be imported as; for other
/// files their full name, so that each stands alone.
fn module(library: &Library) -> (&Path, &str) {
    let folder = library.path.parent().unwrap_or(Path::new(""));
    let name = library
        .path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    match name.split_once('.') {
        Some((module, _)) if library.scan.extension_module => (folder, module),
        _ => (folder, name),
    }
}

/// `pybundle/_mpi_FLAVOUR.so`.
fn is_plugin(library: &Library) -> bool {
    let mut names = library.path.iter().rev().filter_map(|name| name.to_str());
    names.next().is_some_and(|name| name.starts_with("_mpi_")) && names.next() == Some("pybundle")
}

/// MPI libraries that a file needs.
fn needed(library: &Library) -> impl Iterator<Item = &str> {
    let names = library.scan.needed.iter().map(String::as_str);
    names.filter(|name| Host::of(name) == Some(Host::Mpi))
}

/// Of the MPI libraries that a file needs, those that tell which MPI it is; its
/// Fortran and C++ bindings only where they stand alone.
fn main_names(library: &Library) -> impl Iterator<Item = &str> {
    let is_binding = |name: &str| {
        let stem = name.split(".so").next().unwrap_or(name);
        [
            "libmpicxx",
            "libmpifort",
            "libmpi_cxx",
            "libmpi_mpifh",
            "libmpi_usempi",
            "libmpi_java",
        ]
        .iter()
        .chain(&["libopen-", "libmpi_gtl"])
        .any(|start| stem.starts_with(start))
    };
    let alone = needed(library).all(is_binding);
    needed(library).filter(move |name| alone || !is_binding(name))
}

/// A library, a plug-in or a program of an MPI installation that lies in the environment.
fn belongs_to_mpi(library: &Library) -> bool {
    let name = library
        .path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    library.scan.program || name.starts_with("mca_") || Host::of(name) == Some(Host::Mpi)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::{Machine, Resolver, Scan, SearchPath};

    fn libraries(files: &[(&str, &[&str])]) -> Libraries {
        let mut resolver = Resolver::new(SearchPath::default());
        for (path, needed) in files {
            let scan = Scan {
                machine: Machine::X86_64,
                soname: None,
                needed: needed.iter().map(|&name| name.to_owned()).collect(),
                rpath: Vec::new(),
                runpath: None,
                glibc: None,
                extension_module: path.contains(".cpython-"),
                calls_mpi: path.contains("abi"),
                build_id: None,
                program: path.contains("bin/"),
            };
            resolver.add(path.into(), scan);
        }
        resolver.resolve()
    }

    fn needed(files: &[(&str, &[&str])]) -> Vec<Vec<String>> {
        libraries(files)
            .mpi_needed()
            .into_iter()
            .map(|set| set.into_iter().collect())
            .collect()
    }

    #[test]
    fn one_of_a_modules_variants_is_enough() {
        let found = needed(&[
            (
                "/env/mpi4py/MPI.mpich.cpython-311.so",
                &["libmpi.so.12", "libc.so.6"],
            ),
            (
                "/env/mpi4py/MPI.openmpi.cpython-311.so",
                &["libmpi.so.40", "libc.so.6"],
            ),
        ]);
        assert_eq!(found, [["libmpi.so.12", "libmpi.so.40"]]);
    }

    #[test]
    fn other_files_each_need_theirs_and_bindings_do_not_count() {
        let found = needed(&[
            (
                "/env/lib/libpetsc.so",
                &["libmpifort.so.12", "libmpi.so.12"],
            ),
            ("/env/lib/libhdf5.so", &["libmpi.so.12"]),
            ("/env/lib/libother.so", &["libmpi_mpifh.so.40"]),
        ]);
        assert_eq!(found, [["libmpi.so.12"], ["libmpi_mpifh.so.40"]]);
    }

    #[test]
    fn neither_an_mpi_in_the_environment_nor_our_plugins_are_users_of_mpi() {
        let found = libraries(&[
            ("/env/lib/libmpifort.so.12", &["libmpi.so.12"]),
            ("/env/lib/openmpi/mca_pml_ob1.so", &["libmpi.so.40"]),
            ("/env/bin/mpichversion", &["libmpi.so.12"]),
            ("/env/pybundle/_mpi_mpich.so", &["libmpi.so.12"]),
            ("/env/pybundle/_mpi_openmpi.so", &["libmpi.so.40"]),
            ("/env/pkg/plain.so", &["libc.so.6"]),
            ("/env/pkg/abi.so", &["libc.so.6"]),
        ]);
        let users: Vec<&Path> = found
            .mpi_users()
            .map(|library| library.path.as_path())
            .collect();
        assert_eq!(users, [Path::new("/env/pkg/abi.so")]);
        assert!(found.mpi_needed().is_empty());
    }
}
