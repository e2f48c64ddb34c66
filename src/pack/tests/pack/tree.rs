//! Files, links and groups of packed environments.

use fs_err as fs;
use pybundle_bundle::record::{ENTRY_LAZY, ENTRY_SOURCE, Kind};
use pybundle_pack::Reason;

use crate::{
    environment::{Environment, write},
    support::{Python, pythons},
};

fn python() -> Option<Python> {
    pythons().into_iter().next()
}

#[test]
fn everything_is_packed() {
    let Some(python) = python() else { return };
    let environment = Environment::new(&python);
    let site = environment.site();
    environment.write(&[
        ("p/__init__.py", "x = 1\n"),
        ("p/d.txt", "d"),
        ("p/include/p.h", "h"),
        ("q/__init__.py", ""),
        ("q/include/q.h", &"h".repeat(5 << 20)),
    ]);
    environment.run(&["-m", "compileall", "-q", "."]);
    write(&environment.path().join("share/s.txt"), "s");
    fs::create_dir_all(environment.path().join("etc/empty")).unwrap();
    let name = "odd \u{e9} % name";
    write(&environment.path().join(name), "odd");
    let (bundle, summary) = environment.pack();
    let paths = bundle.paths();
    assert!(
        !paths.iter().any(|path| path.contains("__pycache__")),
        "{paths:?}"
    );
    assert_eq!(bundle.read(&format!("{site}/p/d.txt")), "d");
    assert_eq!(bundle.read(name), "odd");
    assert_eq!(bundle.kind("bin/python"), Some(Kind::Link));
    assert_eq!(bundle.kind("etc/empty"), Some(Kind::Folder));
    assert!(bundle.read("pyvenv.cfg").contains("home"));
    let flags = |path: String| bundle.entry(&path).unwrap().flags;
    assert_eq!(flags(format!("{site}/p/__init__.py")), ENTRY_SOURCE);
    assert_eq!(flags(format!("{site}/p/include/p.h")), 0);
    assert_eq!(flags(format!("{site}/q/include/q.h")), ENTRY_LAZY);
    assert_eq!(flags(format!("{site}/p/d.txt")), 0);
    assert!(summary.skipped.is_empty(), "{:?}", summary.skipped);
    assert!(summary.warnings.is_empty(), "{:?}", summary.warnings);
    assert_eq!(bundle.entry("bin/activate").unwrap().mode & 0o777, 0o644);
}

#[test]
fn groups_are_distributions() {
    let Some(python) = python() else { return };
    let environment = Environment::new(&python);
    let site = environment.site();
    environment.write(&[
        ("p/__init__.py", ""),
        ("p/tests/t.py", ""),
        ("p/tests/t.dat", ""),
        ("shared/one.py", ""),
        ("shared/two.py", ""),
        ("p.libs/x.dat", ""),
        ("q_extra.py", ""),
        ("lone/x.py", ""),
        (
            "P_Dist-1.0.dist-info/RECORD",
            "p/__init__.py,,\np/tests/t.py,,\np/tests/t.dat,,\nshared/one.py,,\np.libs/x.dat,,\n\
             ../../../share/p/big.dat,,\nP_Dist-1.0.dist-info/RECORD,,\n",
        ),
        (
            "P_Dist-1.0.dist-info/METADATA",
            "Name: P.Dist\nRequires-Dist: nvidia-q\n",
        ),
        ("q-2.dist-info/METADATA", "Name: nvidia_q\n"),
        (
            "q-2.dist-info/RECORD",
            "\"shared/two.py\",,\nq_extra.py,,\n",
        ),
        ("old.egg-info/PKG-INFO", "Name: old\n"),
        ("old.egg-info/top_level.txt", "lone\n"),
    ]);
    write(&environment.path().join("share/p/big.dat"), "b");
    let (bundle, _) = environment.pack();
    let group = |path: &str| bundle.group(&format!("{site}/{path}"));
    for (path, name) in [
        ("p/__init__.py", "p-dist"),
        ("p/tests/t.dat", "p-dist tests"),
        ("p.libs/x.dat", "p-dist"),
        ("shared/one.py", "p-dist"),
        ("shared/two.py", "nvidia-q"),
        ("q_extra.py", "nvidia-q"),
        ("lone/x.py", "old"),
        ("old.egg-info/PKG-INFO", "(metadata)"),
    ] {
        assert_eq!(group(path), name, "{path}");
    }
    assert_eq!(bundle.group("share/p/big.dat"), "(environment)");
    assert_eq!(bundle.companions("p-dist"), ["nvidia-q"]);
    assert_eq!(bundle.companions("p-dist tests"), ["nvidia-q", "p-dist"]);
}

#[test]
fn conda_records_own_what_no_wheel_owns() {
    let Some(python) = python() else { return };
    let environment = Environment::new(&python);
    let site = environment.site();
    environment.write(&[
        ("p/__init__.py", ""),
        ("p/d.txt", ""),
        ("p-1.dist-info/RECORD", "p/__init__.py,,\n"),
        ("p-1.dist-info/METADATA", "Name: p\n"),
    ]);
    let record = |name: &str, files: &[String]| {
        let path = environment
            .path()
            .join(format!("conda-meta/{name}-1-0.json"));
        let record = serde_json::json!({"name": name, "files": files, "other": [1]});
        write(&path, &record.to_string());
    };
    record(
        "conda.P",
        &[format!("{site}/p/__init__.py"), format!("{site}/p/d.txt")],
    );
    write(&environment.path().join("conda-meta/history"), "");
    write(&environment.path().join("conda-meta/broken.json"), "{");
    let (bundle, _) = environment.pack();
    assert_eq!(bundle.group(&format!("{site}/p/__init__.py")), "p");
    assert_eq!(bundle.group(&format!("{site}/p/d.txt")), "conda-p");
    let history = bundle.entry("conda-meta/history").unwrap();
    assert_eq!(history.flags & ENTRY_LAZY, ENTRY_LAZY);
}

#[test]
fn a_large_environment_is_placed_by_distribution() {
    let Some(python) = python() else { return };
    let environment = Environment::new(&python);
    environment.write(&[
        ("p/__init__.py", ""),
        (
            "p-1.dist-info/RECORD",
            "p/__init__.py,,\n../../../share/p/big.dat,,\n",
        ),
    ]);
    write(&environment.path().join("share/p/big.dat"), "");
    let big = fs::OpenOptions::new()
        .write(true)
        .open(environment.path().join("share/p/big.dat"))
        .unwrap();
    big.set_len(65 << 20).unwrap();
    let (bundle, _) = environment.pack();
    assert_eq!(bundle.group("share/p/big.dat"), "p");
    assert_eq!(bundle.group("pyvenv.cfg"), "(environment)");
}

#[test]
fn links_out_of_the_environment() {
    let Some(python) = python() else { return };
    let environment = Environment::new(&python);
    let site = environment.site();
    let store = environment.top().join("store");
    write(&store.join("pkg/__init__.py"), "x = 1\n");
    write(&store.join("lone.py"), "y = 1\n");
    environment
        .link("pkg", store.join("pkg"))
        .link("lone.py", store.join("lone.py"))
        .link("gone.py", store.join("gone.py"));
    let (bundle, summary) = environment.pack();
    assert_eq!(
        bundle.kind(&format!("{site}/pkg/__init__.py")),
        Some(Kind::File)
    );
    assert_eq!(bundle.kind(&format!("{site}/lone.py")), Some(Kind::File));
    assert_eq!(bundle.kind(&format!("{site}/gone.py")), Some(Kind::Link));
    assert_eq!(summary.skipped.len(), 1, "{:?}", summary.skipped);
    assert_eq!(summary.skipped[0].reason, Reason::Dangling);
    bundle.compare(&python.path);
}

#[test]
fn excluded_and_special_files_are_reported() {
    let Some(python) = python() else { return };
    let environment = Environment::new(&python);
    environment.write(&[("p/__init__.py", ""), ("p/tests/t.py", ""), ("p/x.c", "")]);
    let socket = environment.path().join("socket");
    std::os::unix::net::UnixListener::bind(socket).unwrap();
    let mut request = environment.request();
    request.exclude = vec!["tests".to_owned(), "*.c".to_owned()];
    let (bundle, summary) = environment.pack_as(&request);
    let paths = bundle.paths();
    assert!(
        !paths
            .iter()
            .any(|path| path.contains("tests") || path.ends_with("p/x.c"))
    );
    let reasons: Vec<Reason> = summary.skipped.iter().map(|one| one.reason).collect();
    assert_eq!(
        reasons,
        [Reason::Excluded, Reason::Excluded, Reason::Special]
    );
    assert_eq!(bundle.head.manifest.options.exclude, request.exclude);
}
