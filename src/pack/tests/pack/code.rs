//! Code blocks: reused and compiled bytecode, what a change touches.

use std::collections::BTreeMap;

use pybundle_bundle::record::Kind;

use crate::{
    bundle::Bundle,
    environment::Environment,
    support::{Python, pythons},
};

fn python() -> Option<Python> {
    pythons().into_iter().next()
}

/// Code blocks by name, with their digests.
fn blocks(bundle: &Bundle) -> BTreeMap<String, [u8; 32]> {
    let index = bundle.index();
    (0..index.entries())
        .filter_map(|row| index.entry(row))
        .filter(|entry| entry.kind == Kind::Code as u8)
        .map(|entry| (index.entry_name(&entry), entry.sha256))
        .collect()
}

#[test]
fn reused_and_compiled_bytecode_are_the_same() {
    let Some(python) = python() else { return };
    let environment = Environment::new(&python);
    environment.write(&[
        ("p/__init__.py", "import sys\nX = {'a', 'b', 'c'}\n"),
        (
            "p/m.py",
            "def f(x, *, y=1):\n    return [x in {1, 2, 'z'} for x in (y, 2)]\n",
        ),
    ]);
    let (fresh, summary) = environment.pack();
    assert_eq!((summary.code.compiled, summary.code.reused), (2, 0));
    environment.run(&["-m", "compileall", "-q", "."]);
    let (reused, summary) = environment.pack();
    assert_eq!((summary.code.compiled, summary.code.reused), (0, 2));
    assert_eq!(blocks(&fresh), blocks(&reused));
    assert_eq!(fresh.head.identity, reused.head.identity);
}

#[test]
fn one_change_changes_one_block() {
    let Some(python) = python() else { return };
    let environment = Environment::new(&python);
    let names: Vec<String> = (0..600).map(|n| format!("big/m{n}.py")).collect();
    let files: Vec<(&str, &str)> = names
        .iter()
        .map(|name| (name.as_str(), "x = 1\n"))
        .collect();
    environment.write(&files).write(&[("other.py", "o = 1\n")]);
    let (before, _) = environment.pack();
    environment.write(&[("big/m300.py", "x = 'another and longer value'\n")]);
    let (after, _) = environment.pack();
    let (before, after) = (blocks(&before), blocks(&after));
    assert!(before.len() > 3, "{}", before.len());
    assert!(before.keys().eq(after.keys()));
    let changed = before
        .iter()
        .filter(|&(name, digest)| after[name] != *digest)
        .count();
    assert_eq!(changed, 1);
}

#[test]
fn sources_that_do_not_compile_are_named() {
    let Some(python) = python() else { return };
    let environment = Environment::new(&python);
    environment.write(&[("bad.py", "print 1\n"), ("nul.py", "x = '\0'\n")]);
    let (bundle, summary) = environment.pack();
    assert_eq!(summary.code.uncompiled, 2);
    let bad = summary
        .skipped
        .iter()
        .find(|one| one.path.ends_with("/bad.py"))
        .unwrap();
    assert!(bad.detail.contains("SyntaxError"), "{bad:?}");
    let site = environment.site();
    assert_eq!(bundle.read(&format!("{site}/bad.py")), "print 1\n");
    assert!(bundle.modules().contains_key(&(site, "bad".to_owned())));
}
