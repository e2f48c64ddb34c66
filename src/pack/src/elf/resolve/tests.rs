//! The order of the search, and what comes from where.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::elf::Machine;
use std::fs;
use tempfile::TempDir;

/// A folder for files, of which those added exist, but are empty.
struct Environment {
    folder: TempDir,
    resolver: Resolver,
}

impl Environment {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            folder,
            resolver: Resolver::new(SearchPath::default()),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(path)
    }

    fn add(&mut self, path: &str, needed: &[&str], change: impl FnOnce(&mut Scan)) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        let mut scan = own_scan();
        scan.needed = needed.iter().map(|&name| name.to_owned()).collect();
        change(&mut scan);
        self.resolver.add(path, scan);
    }

    /// Puts a real ELF file where the resolver has to find it.
    fn outside(&self, path: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
        path
    }

    /// Resolves, and says for the first file where its names are: paths in the folder.
    fn places(self) -> Vec<String> {
        let root = self.folder.path().canonicalize().unwrap();
        let libraries = self.resolver.resolve();
        let place = |dependency: &Dependency| match dependency.place {
            Place::Library(found) => libraries.all()[found]
                .path
                .strip_prefix(&root)
                .unwrap()
                .display()
                .to_string(),
            other => format!("{other:?}"),
        };
        libraries.all()[0].dependencies.iter().map(place).collect()
    }
}

/// A library of this machine that says nothing.
fn own_scan() -> Scan {
    let Object::Native(scan) = scan(&fs::read("/proc/self/exe").unwrap()).unwrap() else {
        panic!("the test isn't a native program")
    };
    Scan {
        soname: None,
        needed: Vec::new(),
        rpath: Vec::new(),
        runpath: None,
        extension_module: false,
        calls_mpi: false,
        program: false,
        build_id: None,
        ..*scan
    }
}

#[test]
fn folders_are_searched_in_the_linkers_order() {
    for (removed, expected) in [
        (0, "rpath/libx.so"),
        (1, "variable/libx.so"),
        (2, "environment/libx.so"),
        (3, "system/libx.so"),
        (4, "elsewhere/libx.so"),
        (5, "Missing"),
    ] {
        let mut env = Environment::new();
        env.add("pkg/a.so", &["libx.so"], |scan| {
            scan.rpath = vec!["$ORIGIN/../rpath".into()];
        });
        let all = ["rpath", "variable", "environment", "system", "elsewhere"];
        for folder in &all[removed..] {
            env.add(&format!("{folder}/libx.so"), &[], |_| ());
        }
        env.resolver.search = SearchPath {
            variable: vec![env.path("variable")],
            environment: vec![env.path("environment")],
            system: vec![env.path("system")],
        };
        assert_eq!(env.places(), [expected]);
    }
}

#[test]
fn a_runpath_comes_after_the_variable_and_turns_rpaths_off() {
    let mut env = Environment::new();
    env.add("a.so", &["libx.so", "liby.so", "libz.so"], |scan| {
        scan.rpath = vec!["$ORIGIN/rpath".into()];
        scan.runpath = Some(vec!["$ORIGIN/runpath".into()]);
    });
    for file in [
        "rpath/libx.so",
        "runpath/libx.so",
        "runpath/liby.so",
        "variable/liby.so",
    ] {
        env.add(file, &[], |_| ());
    }
    env.resolver.search.variable = vec![env.path("variable")];
    assert_eq!(
        env.places(),
        ["runpath/libx.so", "variable/liby.so", "Missing"]
    );
}

#[test]
fn a_file_without_rpath_uses_that_of_its_loaders() {
    // As scipy's libgfortran, which finds libquadmath through the module that loads openblas.
    let mut env = Environment::new();
    env.add(
        "libs/libgfortran.so",
        &["libquadmath.so", "libz.so"],
        |_| (),
    );
    env.add("libs/libquadmath.so", &[], |_| ());
    env.add("libs/libopenblas.so", &["libgfortran.so"], |scan| {
        scan.rpath = vec!["$ORIGIN".into()];
    });
    env.add("other/libz.so", &[], |_| ());
    env.add("pkg/a.so", &["libopenblas.so"], |scan| {
        scan.rpath = vec!["$ORIGIN/../other".into(), "$ORIGIN/../libs".into()];
    });
    assert_eq!(env.places(), ["libs/libquadmath.so", "other/libz.so"]);
}

#[test]
fn libraries_from_elsewhere_travel_but_not_the_hosts() {
    let mut env = Environment::new();
    let needed = [
        "libx.so",
        "libc.so.6",
        "libmpi.so.40",
        "libfabric.so.1",
        "libstdc++.so.6",
    ];
    env.add("env/a.so", &needed, |scan| {
        scan.rpath = vec!["$ORIGIN/../store".into()];
    });
    for name in needed {
        env.outside(&format!("store/{name}"));
    }
    let expected = [
        "store/libx.so",
        "Host(C)",
        "Host(Mpi)",
        "Host(Fabric)",
        "store/libstdc++.so.6",
    ];
    assert_eq!(env.places(), expected);
}

#[test]
fn the_environments_own_copies_count_except_where_there_can_be_one_only() {
    let mut env = Environment::new();
    let needed = [
        "libmpi.so.40",
        "libfabric.so.1",
        "libstdc++.so.6",
        "libcuda.so.1",
    ];
    env.add("lib/a.so", &needed, |scan| {
        scan.rpath = vec!["$ORIGIN".into()];
    });
    for name in needed {
        env.add(&format!("lib/{name}"), &[], |_| ());
    }
    let expected = [
        "Host(Mpi)",
        "lib/libfabric.so.1",
        "lib/libstdc++.so.6",
        "Host(GpuDriver)",
    ];
    assert_eq!(env.places(), expected);
}

#[test]
fn the_systems_compiler_runtime_stays_there_but_other_libraries_travel() {
    let mut env = Environment::new();
    env.add(
        "a.so",
        &["libstdc++.so.6", "libssl.so.3", "libgone.so"],
        |_| (),
    );
    env.outside("system/libstdc++.so.6");
    let ssl = env.outside("system/libssl.so.3.0");
    std::os::unix::fs::symlink(&ssl, env.path("system/libssl.so.3")).unwrap();
    let system = env.path("system");
    // Naming the folder doesn't make it another one.
    env.resolver.search = SearchPath {
        variable: vec![system.clone()],
        environment: Vec::new(),
        system: vec![system],
    };
    let libraries = env.resolver.resolve();
    let places: Vec<Place> = libraries.all()[0]
        .dependencies
        .iter()
        .map(|it| it.place)
        .collect();
    assert_eq!(
        places,
        [
            Place::Host(Host::CompilerRuntime),
            Place::Library(1),
            Place::Missing
        ]
    );
    assert_eq!(
        libraries.outside().map(|it| &it.path).collect::<Vec<_>>(),
        [&ssl]
    );
    let missing: Vec<&str> = libraries.missing().map(|(_, name)| name).collect();
    assert_eq!(missing, ["libgone.so"]);
}

#[test]
fn files_of_other_machines_and_scripts_of_the_linker_are_passed_over() {
    let mut env = Environment::new();
    env.add("a.so", &["libx.so"], |scan| {
        scan.rpath = ["first", "second", "third"]
            .map(|it| format!("$ORIGIN/{it}"))
            .into();
    });
    env.add("first/libx.so", &[], |scan| {
        scan.machine = match scan.machine {
            Machine::X86_64 => Machine::Aarch64,
            Machine::Aarch64 => Machine::X86_64,
        };
    });
    fs::create_dir(env.path("second")).unwrap();
    fs::write(env.path("second/libx.so"), "INPUT(libx.so.1)").unwrap();
    env.outside("third/libx.so");
    assert_eq!(env.places(), ["third/libx.so"]);
}

#[test]
fn a_library_that_its_package_opens_itself_is_found_by_soname() {
    let mut env = Environment::new();
    env.add("torch/lib/a.so", &["libcublas.so.12"], |_| ());
    env.add("nvidia/lib/cublas", &[], |scan| {
        scan.soname = Some("libcublas.so.12".into());
    });
    env.add("torch/old/libcublas.so.12", &[], |_| ());
    assert_eq!(env.places(), ["torch/old/libcublas.so.12"]);
}
