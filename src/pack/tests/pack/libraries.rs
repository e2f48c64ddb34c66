//! Shared libraries: what an extension needs is found, packed, and placed with it.

use std::{path::Path, process::Command};

use fs_err as fs;
use pybundle_bundle::record::{ENTRY_ELF, Node};

use crate::{bundle::Bundle, environment::Environment, support::pythons};

/// Compiles a shared library; false if there is no compiler.
fn compile(path: &Path, source: &str, options: &[String]) -> bool {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let text = path.with_extension("c");
    fs::write(&text, source).unwrap();
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wl,--no-as-needed", "-o"])
        .arg(path)
        .arg(&text)
        .args(options)
        .status();
    fs::remove_file(&text).unwrap();
    status.is_ok_and(|status| status.success())
}

impl Bundle {
    /// Paths of the libraries that are opened before the file at a path.
    fn needs(&self, path: &str) -> Vec<String> {
        let Some(Node::Entry(row)) = self.index().find(path.as_bytes()) else {
            panic!("{path}");
        };
        self.index()
            .needs(row)
            .map(|row| self.index().entry_name(&self.index().entry(row).unwrap()))
            .collect()
    }
}

#[test]
fn libraries_come_with_their_users() {
    let Some(python) = pythons().into_iter().next() else {
        return;
    };
    let environment = Environment::new(&python);
    let (site, store) = (environment.site(), environment.top().join("store"));
    let folder = environment.path().join(&site);
    let search = |folder: &Path| format!("-L{}", folder.display());
    let made = compile(
        &store.join("libouter.so"),
        "int outer(void) { return 1; }",
        &[],
    ) && compile(
        &folder.join("b.libs/libinner.so"),
        "int outer(void); int inner(void) { return outer(); }",
        &[
            search(&store),
            "-louter".to_owned(),
            format!("-Wl,--disable-new-dtags,-rpath,{}", store.display()),
        ],
    ) && compile(
        &folder.join("a/ext.so"),
        "int inner(void); int PyInit_ext(void) { return inner(); }",
        &[
            search(&folder.join("b.libs")),
            "-linner".to_owned(),
            "-Wl,--allow-shlib-undefined,-rpath,$ORIGIN/../b.libs".to_owned(),
        ],
    );
    if !made {
        eprintln!("not tested, not found: cc");
        return;
    }
    environment.write(&[("a/__init__.py", "")]);
    let (bundle, summary) = environment.pack();
    let outer = "META-INF/pybundle/roots/1/libouter.so";
    let inner = format!("{site}/b.libs/libinner.so");
    let ext = format!("{site}/a/ext.so");
    assert_eq!(bundle.needs(&ext), [outer, inner.as_str()]);
    assert_eq!(bundle.needs(&inner), [outer]);
    let root = &bundle.head.manifest.roots[1];
    assert_eq!(root.paths, [store.to_str().unwrap()]);
    for path in [ext.as_str(), &inner, outer] {
        assert_eq!(
            bundle.entry(path).unwrap().flags & ENTRY_ELF,
            ENTRY_ELF,
            "{path}"
        );
    }
    assert_eq!(
        bundle.companions("a"),
        ["META-INF/pybundle/roots/1", "b-libs"]
    );
    assert_eq!(summary.warnings, Vec::<String>::new());
    bundle.check_order();
}

#[test]
fn libraries_that_are_nowhere_are_named() {
    let Some(python) = pythons().into_iter().next() else {
        return;
    };
    let environment = Environment::new(&python);
    let store = environment.top().join("store");
    let folder = environment.path().join(environment.site());
    let made = compile(
        &store.join("libgone.so"),
        "int gone(void) { return 1; }",
        &[],
    ) && compile(
        &folder.join("ext.so"),
        "int gone(void); int PyInit_ext(void) { return gone(); }",
        &[format!("-L{}", store.display()), "-lgone".to_owned()],
    );
    if !made {
        eprintln!("not tested, not found: cc");
        return;
    }
    fs::remove_dir_all(store).unwrap();
    let (_, summary) = environment.pack();
    let expected = format!(
        "`libgone.so` is found nowhere, needed by `{}/ext.so`",
        environment.site()
    );
    assert_eq!(summary.warnings, [expected]);
}
