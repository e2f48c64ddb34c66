use std::os::unix::fs::symlink;

use super::*;

/// Scans `top/env`, whose `sp` is importable.
fn scan(top: &Path, globs: &[&str]) -> (Tree, Vec<Skipped>) {
    let top = fs::canonicalize(top).unwrap();
    let environment = top.join("env");
    let roots = Roots::new(environment.clone(), environment.clone());
    let globs: Vec<String> = globs.iter().map(ToString::to_string).collect();
    let exclude = Exclude::new(&globs).unwrap();
    let output = environment.join("out.pybundle");
    let importable = [b"sp".to_vec()];
    let rules = Rules {
        left_out: &[],
        exclude: &exclude,
        importable: &importable,
        roots: &roots,
        own: &Own::default(),
        output: &output,
    };
    let mut scanner = Scanner::new(rules, &());
    scanner.folder(&environment, b"").unwrap();
    scanner.finish()
}

fn write(path: PathBuf) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, b"x").unwrap();
}

fn paths(tree: &Tree) -> Vec<String> {
    tree.iter().map(|found| name::escape(&found.path)).collect()
}

#[test]
fn files_folders_and_bytecode() {
    let top = tempfile::tempdir().unwrap();
    let env = top.path().join("env");
    for file in [
        "sp/a.py",
        "sp/__pycache__/a.cpython-311.pyc",
        "sp/__pycache__/a.cpython-311.pyc.7731",
        "sp/q/__pycache__/a.nbi",
        "sp/bc.pyc",
        "META-INF/pybundle/x",
        "out.pybundle",
        "big/no/x",
    ] {
        write(env.join(file));
    }
    fs::create_dir_all(env.join("sp/empty")).unwrap();
    std::os::unix::net::UnixListener::bind(env.join("sock")).unwrap();
    let (tree, skipped) = scan(top.path(), &["no"]);
    assert_eq!(
        paths(&tree),
        [
            "big",
            "sp/a.py",
            "sp/bc.pyc",
            "sp/empty",
            "sp/q/__pycache__/a.nbi"
        ]
    );
    let reasons: Vec<_> = skipped
        .iter()
        .map(|one| (one.path.as_str(), one.reason))
        .collect();
    assert_eq!(
        reasons,
        [
            ("META-INF/pybundle/x", Reason::Name),
            ("big/no", Reason::Excluded),
            ("sock", Reason::Special),
        ]
    );
}

#[test]
fn links_inside_stay_links() {
    let top = tempfile::tempdir().unwrap();
    let env = top.path().join("env");
    write(env.join("lib/x.so.1"));
    symlink("lib", env.join("lib64")).unwrap();
    symlink(env.join("lib/x.so.1"), env.join("lib/x.so")).unwrap();
    symlink("../../env/lib/x.so.1", env.join("lib/y.so")).unwrap();
    symlink("nothing", env.join("broken")).unwrap();
    let (tree, skipped) = scan(top.path(), &[]);
    let text = |path: &[u8]| match &tree.get(tree.find(path).unwrap()).unwrap().what {
        What::Link(text) => name::escape(text),
        other => panic!("{other:?}"),
    };
    assert_eq!(text(b"lib64"), "lib");
    assert_eq!(text(b"lib/x.so"), "x.so.1");
    assert_eq!(text(b"lib/y.so"), "x.so.1");
    assert_eq!(text(b"broken"), "nothing");
    assert_eq!(skipped.len(), 1);
    assert_eq!(skipped[0].reason, Reason::Dangling);
}

#[test]
fn links_that_lead_out() {
    let top = tempfile::tempdir().unwrap();
    let env = top.path().join("env");
    write(top.path().join("store/pkg/m.py"));
    write(top.path().join("store/lone.py"));
    fs::create_dir_all(env.join("sp/own")).unwrap();
    fs::create_dir_all(env.join("bin")).unwrap();
    symlink(top.path().join("store/pkg"), env.join("sp/pkg")).unwrap();
    symlink(top.path().join("store/pkg"), env.join("share")).unwrap();
    symlink("../../store/lone.py", env.join("sp/lone.py")).unwrap();
    symlink("../../sp", env.join("sp/own/round")).unwrap();
    symlink("/bin/sh", env.join("bin/python3")).unwrap();
    symlink("/etc/passwd", env.join("passwd")).unwrap();
    symlink(top.path().join("store"), top.path().join("store/pkg/loop")).unwrap();
    let (tree, skipped) = scan(top.path(), &[]);
    let is_file = |path: &[u8]| matches!(tree.resolve(path), Some(Node::File(_)));
    assert!(is_file(b"sp/pkg/m.py") && is_file(b"sp/lone.py") && is_file(b"share/m.py"));
    let reasons: Vec<_> = skipped
        .iter()
        .map(|one| (one.path.as_str(), one.reason))
        .collect();
    assert!(
        reasons.contains(&("passwd", Reason::LeadsOut)),
        "{reasons:?}"
    );
    assert!(
        reasons.contains(&("sp/own/round", Reason::Circular)),
        "{reasons:?}"
    );
    assert!(
        !reasons.iter().any(|(path, _)| path.starts_with("bin")),
        "{reasons:?}"
    );
}

#[test]
fn other_environments_stay_out() {
    let top = tempfile::tempdir().unwrap();
    let env = top.path().join("env");
    for file in [
        "pyvenv.cfg",
        "bin/x",
        "conda-meta/x.json",
        "envs/other/conda-meta/history",
        "envs/other/bin/x",
        "pkgs/urls.txt",
        "pkgs/cache/x",
        "share/venv/pyvenv.cfg",
        "share/venv/bin/x",
        "share/only/pyvenv.cfg",
    ] {
        write(env.join(file));
    }
    let (tree, skipped) = scan(top.path(), &[]);
    assert_eq!(
        paths(&tree),
        [
            "bin/x",
            "conda-meta/x.json",
            "pyvenv.cfg",
            "share/only/pyvenv.cfg"
        ]
    );
    let reasons: Vec<_> = skipped
        .iter()
        .map(|one| (one.path.as_str(), one.reason))
        .collect();
    assert_eq!(
        reasons,
        [
            ("envs/other", Reason::Nested),
            ("pkgs", Reason::Nested),
            ("share/venv", Reason::Nested),
        ]
    );
}
