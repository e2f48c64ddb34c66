//! The module table is what CPython's own finder finds, for each Python that is here.

use fs_err as fs;

use crate::{bundle::Bundle, environment::Environment, support::pythons};

/// An environment with every kind of module, some of them shadowing others.
fn populate(environment: &Environment) {
    let suffix = environment.run(&[
        "-c",
        "import importlib.machinery as m; print(m.EXTENSION_SUFFIXES[0], end='')",
    ]);
    environment
        .write(&[
            ("a/__init__.py", "from . import b\n"),
            ("a/b.py", "def f():\n    return 1, 'text', (2.5, None)\n"),
            ("a/tests/__init__.py", ""),
            ("a/tests/test_b.py", "import a\n"),
            ("a/data/x.txt", "data"),
            ("a.py", "shadowed by the package\n"),
            ("space/one.py", "x = 1\n"),
            ("space/deep/er/two.py", "y = 2\n"),
            ("single.py", "class A:\n    pass\n"),
            ("dotted.name.py", "z = 3\n"),
            ("folder.with.dots/m.py", "q = 1\n"),
            ("not-a-name.py", "n = 1\n"),
            ("broken.py", "def (:\n"),
            ("latin.py", "# coding: latin-1\ns = 'a'\n"),
            ("ext.so", ""),
            ("ext.py", "shadowed\n"),
            ("late/__init__.pyi", ""),
            ("late.py", "l = 1\n"),
            ("empty_package/__init__.py", ""),
            ("main/__main__.py", "print(1)\n"),
            (&format!("native{suffix}"), ""),
            ("native.so", ""),
            (&format!("package/__init__{suffix}"), ""),
            ("package/__init__.py", ""),
            ("compiled/__init__.py", "c = 1\n"),
            ("compiled/one.py", "c = 2\n"),
            ("stale.py", "s = 1\n"),
            ("hashed.py", "h = 1\n"),
        ])
        .link("linked.py", "single.py")
        .link("linked_package", "a")
        .link("dangling.py", "nothing.py");
    let site = environment.path().join(environment.site());
    fs::create_dir_all(site.join("bare")).unwrap();
    // `compiled` is left without sources; some caches are valid, one is not.
    environment.run(&[
        "-c",
        "import py_compile as p, os\n\
         for name in ['__init__', 'one']:\n\
         \x20   source = f'compiled/{name}.py'\n\
         \x20   p.compile(source, source + 'c'); os.remove(source)\n\
         for name in ['a/b.py', 'single.py', 'stale.py']: p.compile(name)\n\
         p.compile('hashed.py', invalidation_mode=p.PycInvalidationMode.CHECKED_HASH)\n\
         open('stale.py', 'w').write('s = 22\\n')\n",
    ]);
}

#[test]
fn small_environments() {
    for python in pythons() {
        let environment = Environment::new(&python);
        populate(&environment);
        let (bundle, summary) = environment.pack();
        let (folders, modules, codes) = bundle.compare(&python.path);
        assert!(
            folders > 10 && modules > 30 && codes > 20,
            "{folders} {modules} {codes}"
        );
        bundle.check_order();
        assert_eq!(summary.code.reused, 6, "{summary:?}");
        assert_eq!(summary.code.uncompiled, 1);
        let inits = bundle.modules();
        let inits = inits.keys().filter(|(_, name)| name == "__init__").count();
        assert_eq!(summary.modules, (modules - inits) as u64);
        assert_eq!(bundle.head.manifest.counts.modules, codes as u64);
        let site = environment.site();
        let file = |name: &str| bundle.modules()[&(site.clone(), name.to_owned())].clone();
        assert_eq!(file("linked"), format!("{site}/linked.py"));
        assert_eq!(
            file("linked_package"),
            format!("{site}/linked_package/__init__.py")
        );
        assert_eq!(file("ext"), format!("{site}/ext.so"));
    }
}

/// Environments of the machine, named in `PYBUNDLE_TEST_ENVIRONMENTS` (colon-separated).
#[test]
fn given_environments() {
    for path in
        std::env::split_paths(&std::env::var_os("PYBUNDLE_TEST_ENVIRONMENTS").unwrap_or_default())
    {
        if path.as_os_str().is_empty() {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut request = pybundle_pack::Request::new(&path);
        request.output = Some(folder.path().join("x.pybundle"));
        request.level = 3;
        let summary = pybundle_pack::pack(&request, &()).unwrap();
        let bundle = Bundle::open(&summary.output);
        bundle.check_order();
        let compared = bundle.compare(&path.join("bin/python3"));
        eprintln!("{}: folders, modules, codes: {compared:?}", path.display());
    }
}
