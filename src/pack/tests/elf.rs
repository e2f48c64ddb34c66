//! Real libraries: those of the interpreters found, and wheels with bundled libraries.
//!
//! `PYBUNDLE_TEST_ENV` names a virtual environment with numpy, scipy, h5py and mpi4py
//! installed from wheels; without it that test says so and does nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use pybundle_pack::{
    compile::probe,
    elf::{Host, Libraries, Library, Object, Place, Resolver, SearchPath, scan},
};

/// Scans all files below a folder.
fn add_all(resolver: &mut Resolver, folder: &Path) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            add_all(resolver, &path);
        } else if kind.is_file()
            && let Object::Native(found) = scan(&fs::read(&path).unwrap()).unwrap()
        {
            resolver.add(path, *found);
        }
    }
}

fn resolve(folders: &[&Path], environment: Vec<PathBuf>) -> Libraries {
    let mut resolver = Resolver::new(SearchPath::of_this_machine(environment));
    let begin = Instant::now();
    for folder in folders {
        add_all(&mut resolver, folder);
    }
    let scanned = begin.elapsed();
    let libraries = resolver.resolve();
    let (count, total) = (libraries.all().len(), begin.elapsed());
    eprintln!("{count} files: read and scanned in {scanned:?}, resolved after {total:?}");
    libraries
}

fn name(library: &Library) -> String {
    library
        .path
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

/// The file whose path ends so or has this in its name.
fn find(libraries: &Libraries, part: &str) -> usize {
    let found = libraries
        .all()
        .iter()
        .position(|it| it.path.to_str().unwrap().contains(part));
    found.unwrap_or_else(|| panic!("no file has {part} in its path"))
}

/// Each dependency comes before those that need it, unless they need each other (freetype
/// and harfbuzz do).
fn check_orders(libraries: &Libraries) {
    for (index, library) in libraries.all().iter().enumerate() {
        let order = libraries.load_order(index);
        let mut opened = BTreeSet::new();
        for &next in order.iter().chain([&index]) {
            for dependency in &libraries.all()[next].dependencies {
                if let Place::Library(needed) = dependency.place {
                    assert!(
                        opened.contains(&needed) || libraries.load_order(needed).contains(&next),
                        "{}: {}",
                        library.path.display(),
                        dependency.name
                    );
                }
            }
            opened.insert(next);
        }
    }
}

#[test]
fn standard_extension_modules_find_their_libraries() {
    for python in support::pythons() {
        let answer = probe(&python.path).unwrap();
        let dynload = answer.platstdlib.join("lib-dynload");
        if !dynload.is_dir() {
            continue;
        }
        let libraries = resolve(&[&dynload], vec![answer.base_prefix.join("lib")]);
        let missing: Vec<String> = libraries
            .missing()
            .map(|(it, needed)| format!("{}: {needed}", name(it)))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(
            libraries
                .all()
                .iter()
                .filter(|it| !it.outside)
                .all(|it| it.scan.extension_module)
        );
        for library in libraries.outside() {
            assert_eq!(Host::of(&name(library)), None, "{}", library.path.display());
        }
        assert!(libraries.mpi_needed().is_empty());
        check_orders(&libraries);
    }
}

#[test]
fn wheels_find_the_libraries_that_they_bring() {
    let Some(environment) = std::env::var_os("PYBUNDLE_TEST_ENV").map(PathBuf::from) else {
        eprintln!("not tested: PYBUNDLE_TEST_ENV names no environment");
        return;
    };
    let lib = environment.join("lib");
    let libraries = resolve(&[&lib], vec![lib.clone()]);
    let order = |part| -> Vec<String> {
        let order = libraries.load_order(find(&libraries, part));
        order
            .into_iter()
            .map(|index| name(&libraries.all()[index]))
            .collect()
    };
    let at = |order: &[String], start: &str| {
        order
            .iter()
            .position(|name| name.starts_with(start))
            .unwrap_or_else(|| panic!("{order:?}"))
    };

    let umath = order("numpy/_core/_multiarray_umath.");
    assert!(at(&umath, "libquadmath") < at(&umath, "libgfortran"));
    assert!(at(&umath, "libgfortran") < at(&umath, "libscipy_openblas64_"));
    let lapack = libraries.load_order(find(&libraries, "scipy/linalg/_flapack."));
    let mut bundled = lapack
        .iter()
        .map(|&it| &libraries.all()[it])
        .filter(|it| !it.outside);
    assert!(
        bundled
            .clone()
            .any(|it| name(it).starts_with("libscipy_openblas-"))
    );
    assert!(bundled.all(|it| it.path.to_str().unwrap().contains("scipy.libs")));
    let hdf5 = order("h5py/defs.");
    assert!(at(&hdf5, "libhdf5-") < at(&hdf5, "libhdf5_hl-"));
    // A library without RPATH, which finds its neighbour by that of its loaders or by SONAME.
    if libraries
        .all()
        .iter()
        .any(|it| name(it).starts_with("libgfortran-8f1e9814"))
    {
        assert!(order("libgfortran-8f1e9814")[0].starts_with("libquadmath-828275a7"));
    }
    let mpi: Vec<Vec<String>> = libraries
        .mpi_needed()
        .into_iter()
        .map(|set| set.into_iter().collect())
        .collect();
    assert_eq!(mpi, [["libmpi.so.12", "libmpi.so.40"]]);
    assert!(libraries.mpi_users().all(|it| name(it).starts_with("MPI.")));
    // Others may be installed too, with optional parts that find nothing.
    let packages = ["/numpy", "/scipy", "/h5py", "/mpi4py"];
    for (library, needed) in libraries.missing() {
        let path = library.path.to_str().unwrap();
        assert!(
            !packages.iter().any(|part| path.contains(part)),
            "{path}: {needed}"
        );
    }
    assert!(libraries.all().iter().any(|it| it.scan.glibc.is_some()));
    check_orders(&libraries);
}
