//! `sys.path`, `.pth` files, editable installs, roots.

use std::{
    fs::Permissions,
    os::unix::fs::{PermissionsExt as _, symlink},
    process::Command,
};

use pybundle_bundle::record::{ENTRY_SOURCE, Kind};
use pybundle_pack::{Reason, Request};

use crate::{
    bundle::Bundle,
    environment::{Environment, write},
    support::{Python, pythons},
};

fn python() -> Option<Python> {
    pythons().into_iter().next()
}

#[test]
fn path_and_import_lines() {
    let Some(python) = python() else { return };
    let environment = Environment::new(&python);
    let site = environment.site();
    let project = environment.top().join("project");
    write(&project.join("edited.py"), "e = 1\n");
    environment.write(&[
        (
            "b.pth",
            "import os; os.environ['PYBUNDLE_B'] = 'b'\nvendored\n",
        ),
        (
            "a.pth",
            &format!(
                "# comment\n\nimport sys\n{}\nnot/there\n",
                project.display()
            ),
        ),
        ("vendored/v.py", "v = 1\n"),
    ]);
    let (bundle, summary) = environment.pack();
    let manifest = &bundle.head.manifest;
    assert_eq!(
        manifest.sys_path,
        [site.clone(), format!("{site}/vendored")]
    );
    let lines: Vec<(&str, &str)> = manifest
        .pth
        .iter()
        .map(|line| (line.file.as_str(), line.line.as_str()))
        .collect();
    let (a, b) = (format!("{site}/a.pth"), format!("{site}/b.pth"));
    assert_eq!(
        lines,
        [
            (a.as_str(), "import sys"),
            (b.as_str(), "import os; os.environ['PYBUNDLE_B'] = 'b'"),
        ]
    );
    let [editable] = &manifest.editable[..] else {
        panic!("{:?}", manifest.editable);
    };
    assert_eq!(editable.folder, project.to_str().unwrap());
    assert_eq!(editable.behind, 1, "before the other path line's folder");
    assert!(
        summary
            .skipped
            .iter()
            .any(|one| one.reason == Reason::Editable)
    );
    bundle.compare(&python.path);
}

#[test]
fn a_linked_environment_has_both_paths() {
    let Some(python) = python() else { return };
    let environment = Environment::new(&python);
    environment.write(&[("m.py", "m = 1\n")]);
    let link = environment.top().join("link");
    symlink(environment.path(), &link).unwrap();
    let (bundle, summary) = environment.pack_as(&Request {
        stdlib: false,
        ..Request::new(&link)
    });
    assert_eq!(summary.output, environment.top().join("link.pybundle"));
    let root = &bundle.head.manifest.roots[0];
    assert_eq!(
        root.paths,
        [link.to_str().unwrap(), environment.path().to_str().unwrap()]
    );
    assert!(root.folder.is_empty());
    assert_eq!(bundle.head.manifest.sys_path, [environment.site()]);
}

#[test]
fn site_packages_of_the_base_travel_where_they_are_seen() {
    let Some(python) = python() else { return };
    let environment = Environment::new(&python);
    // A virtual environment of a virtual environment sees the base's site-packages only.
    let config = environment.path().join("pyvenv.cfg");
    let text = fs_err::read_to_string(&config).unwrap();
    let text = text.replace(
        "include-system-site-packages = false",
        "include-system-site-packages = true",
    );
    fs_err::write(&config, text).unwrap();
    let (bundle, _) = environment.pack();
    let manifest = &bundle.head.manifest;
    assert_eq!(manifest.sys_path[0], environment.site());
    let script = "import sys, os; print(*[os.path.realpath(p) for p in sys.path if p], sep='\\n')";
    let seen = environment.run(&["-I", "-c", script]);
    let seen: Vec<&str> = seen.lines().collect();
    let roots = manifest.roots.iter();
    let roots: Vec<_> = roots
        .filter(|root| manifest.sys_path.contains(&root.folder))
        .collect();
    assert!(!roots.is_empty());
    for root in roots {
        let real = root.paths.last().unwrap();
        assert!(seen.contains(&real.as_str()), "{real}");
    }
    bundle.compare(&environment.path().join("bin/python"));
}

#[test]
fn a_prefix_with_its_standard_library() {
    let Some(python) = python() else { return };
    let script = "import sys; print(sys.base_prefix, end='')";
    let output = Command::new(&python.path)
        .args(["-I", "-c", script])
        .output()
        .unwrap();
    let prefix = String::from_utf8(output.stdout).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut request = Request::new(prefix);
    request.output = Some(folder.path().join("x.pybundle"));
    request.level = 1;
    request.exclude = ["test", "idlelib", "site-packages", "dist-packages", "*.a"]
        .map(String::from)
        .to_vec();
    let summary = pybundle_pack::pack(&request, &()).unwrap();
    let bundle = Bundle::open(&summary.output);
    bundle.check_order();
    let modules = bundle.modules();
    let names: Vec<&str> = modules.keys().map(|(_, name)| name.as_str()).collect();
    for name in ["os", "json", "asyncio", "_ctypes"] {
        assert!(names.contains(&name), "{name}");
    }
}

#[test]
fn the_standard_library_of_the_base_comes_along() {
    let Some(python) = python() else { return };
    let environment = Environment::new(&python);
    environment.write(&[("m.py", "import json\n")]);
    let mut request = environment.request();
    let (without, _) = environment.pack_as(&request);
    assert!(without.head.manifest.left_out.is_empty());
    request.stdlib = true;
    request.level = 1;
    let (bundle, _) = environment.pack_as(&request);
    let manifest = &bundle.head.manifest;
    let script = "import os; print(os.path.dirname(os.__file__), end='')";
    let folder = environment.run(&["-I", "-c", script]);
    let root = manifest.roots.iter().find(|root| {
        let real = std::fs::canonicalize(&folder).unwrap();
        root.paths.contains(&real.to_str().unwrap().to_owned())
    });
    let root = root.expect("a root for the standard library");
    // It keeps its place below the base prefix.
    assert!(root.folder.ends_with(&format!(
        "/lib/python{}.{}",
        python.version.0, python.version.1
    )));
    let json = format!("{}/json/__init__.py", root.folder);
    let flags = bundle.entry(&json).unwrap().flags;
    assert_eq!(flags, ENTRY_SOURCE);
    assert!(manifest.sys_path.contains(&root.folder));
    let tests = format!("{}/test", root.folder);
    let site = format!("{}/site-packages/", root.folder);
    assert!(
        !bundle
            .paths()
            .iter()
            .any(|path| path.starts_with(&(tests.clone() + "/")))
    );
    assert!(!bundle.paths().iter().any(|path| path.starts_with(&site)));
    the_interpreter_is_packed(&bundle, &environment);
    assert_eq!(
        manifest.left_out.contains(&tests),
        std::path::Path::new(&folder).join("test").is_dir()
    );
}

/// It starts from the unpacked bundle, and nothing in it names the prefix it was built for.
fn the_interpreter_is_packed(bundle: &Bundle, environment: &Environment) {
    let manifest = &bundle.head.manifest;
    let executable = manifest.python.executable.clone().unwrap();
    let version = "import sys; print(sys.version, sys.prefix == sys.base_prefix, end='')";
    let expected = environment.run(&["-I", "-c", version]);
    assert!(!manifest.python.builds.is_empty());
    // The virtual environment's links lead to it.
    let link = bundle.read("bin/python");
    assert!(!link.starts_with('/'), "{link}");

    let folder = tempfile::tempdir().unwrap();
    let (top, base) = executable.split_once("/bin/").map_or_else(
        || panic!("{executable}"),
        |(top, _)| (top.to_owned(), format!("{top}/")),
    );
    for path in bundle.paths().iter().filter(|path| path.starts_with(&base)) {
        let entry = bundle.entry(path).unwrap();
        let place = folder.path().join(&path[base.len()..]);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        if bundle.kind(path) == Some(Kind::Link) {
            symlink(bundle.read(path), &place).unwrap();
            continue;
        }
        std::fs::write(&place, bundle.content(&entry)).unwrap();
        let mode = Permissions::from_mode(entry.mode & 0o777);
        std::fs::set_permissions(&place, mode).unwrap();
    }
    let python = folder.path().join(&executable[top.len() + 1..]);
    let output = Command::new(&python)
        .args(["-I", "-c", version])
        .env("LD_DEBUG", "libs")
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(shown.replace("True", "False"), expected, "{output:?}");
    let searched = String::from_utf8_lossy(&output.stderr);
    let prefix = &manifest.python.base_prefix;
    let own = format!("{prefix}/lib/");
    assert!(prefix == "/usr" || !searched.contains(&own), "{searched}");
}
