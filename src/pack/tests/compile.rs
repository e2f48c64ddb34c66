//! The interpreter's answers, its processes that compile, and its cached bytecode.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    fs,
    num::NonZeroUsize,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use pybundle_pack::{
    compile::{
        CompileError, Interpreter, Pool, find_interpreter, probe,
        pycache::{self, Stamp},
    },
    marshal::canonical,
};

const MINUTE: Duration = Duration::from_secs(60);

fn pool(interpreter: &Path, workers: usize, limit: Duration) -> Pool {
    Pool::new(interpreter, NonZeroUsize::new(workers).unwrap(), limit).unwrap()
}

/// Runs a script that prints one line.
fn python(interpreter: &Path, arguments: &[&str]) -> String {
    let output = Command::new(interpreter).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_virtual_environments_interpreter_says_what_it_is() {
    for found in support::pythons() {
        let folder = tempfile::tempdir().unwrap();
        let environment = fs::canonicalize(folder.path()).unwrap().join("env");
        python(
            &found.path,
            &["-m", "venv", "--without-pip", environment.to_str().unwrap()],
        );
        let site = fs::read_dir(environment.join("lib"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        let site = site.path().join("site-packages");
        // A `.pth` file that adds a folder, and one that prints.
        fs::create_dir(environment.join("more")).unwrap();
        fs::write(
            site.join("more.pth"),
            environment.join("more").to_str().unwrap(),
        )
        .unwrap();
        fs::write(site.join("noise.pth"), "import sys; print('noise')").unwrap();

        let interpreter = find_interpreter(&environment).unwrap();
        assert_eq!(interpreter, environment.join("bin/python3"));
        let answer = probe(&interpreter).unwrap();
        assert_eq!(answer.implementation, "cpython");
        assert_eq!((answer.version[0], answer.version[1]), found.version);
        assert_eq!(answer.prefix, environment);
        assert_ne!(answer.base_prefix, environment);
        assert!(answer.stdlib.join("os.py").is_file());
        assert!(answer.sys_path.contains(&site) && answer.sys_path.contains(&answer.stdlib));
        assert!(answer.sys_path.contains(&environment.join("more")));
        // Debian's site names folders of its own as well, which a venv doesn't have.
        assert_eq!(answer.site_packages.first(), Some(&site));
        assert_eq!(answer.purelib, site);
        assert!(answer.real_executable.starts_with(&answer.base_prefix));
        let tag = format!("cpython-{}{}", found.version.0, found.version.1);
        assert_eq!(answer.cache_tag.as_deref(), Some(tag.as_str()));
        assert!(
            answer
                .extension_suffixes
                .contains(answer.ext_suffix.as_ref().unwrap())
        );
        assert!(answer.magic_bytes().unwrap().ends_with(b"\r\n"));
        let text = serde_json::to_string(&answer).unwrap();
        assert_eq!(serde_json::from_str::<Interpreter>(&text).unwrap(), answer);
    }
}

#[test]
fn sources_compile_as_the_interpreter_compiles_them() {
    let source = b"# coding: latin-1\n'''doc'''\ny = 1\nassert y, '\xe9'\nx = '\\d' is 'a b'\n";
    for found in support::pythons() {
        let answer = probe(&found.path).unwrap();
        let pool = pool(&found.path, 2, MINUTE);
        for level in 0..=2 {
            let code = pool
                .compile(Path::new("/some/m\u{f6}dule.py"), source, level)
                .unwrap();
            let ours = canonical(&code, answer.python_version(), "x").unwrap();
            let script = "import sys, marshal; sys.stdout.write(marshal.dumps(compile(\
                bytes.fromhex(sys.argv[1]), 'y', 'exec', optimize=int(sys.argv[2]))).hex())";
            let hex = source
                .iter()
                .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
            let options = ["-W", "ignore", "-c", script, &hex, &level.to_string()];
            let text = python(&found.path, &options);
            let theirs: Vec<u8> = (0..text.len() / 2)
                .map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap())
                .collect();
            assert_eq!(
                ours,
                canonical(&theirs, answer.python_version(), "x").unwrap()
            );
            let holds = |text: &[u8]| code.windows(text.len()).any(|window| window == text);
            assert_eq!(
                holds(b"\xc3\xa9"),
                level < 1,
                "an assertion at level {level}"
            );
            assert_eq!(holds(b"doc"), level < 2, "a doc string at level {level}");
        }
    }
}

#[test]
fn a_source_that_does_not_compile_is_its_own_error() {
    for found in support::pythons() {
        let pool = pool(&found.path, 1, MINUTE);
        for (source, expected) in [
            (b"x = = 1\n".as_slice(), "SyntaxError"),
            (b"\xff", "SyntaxError"),
            (b"a = 1\0", "null bytes"),
            (b"# coding: nonsense\n", "nonsense"),
        ] {
            let error = pool.compile(Path::new("a.py"), source, 0).unwrap_err();
            assert!(matches!(error, CompileError::Source { .. }), "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        }
        let nested = [b"(".repeat(100_000), b")".repeat(100_000)].concat();
        assert!(pool.compile(Path::new("a.py"), &nested, 0).is_err());
        let sum = [b"x = 1".to_vec(), b"+1".repeat(100_000)].concat();
        // Compiles, is refused or kills the process, depending on the version.
        let _ = pool.compile(Path::new("a.py"), &sum, 0);
        assert!(pool.compile(Path::new("a.py"), b"x = 1\n", 0).is_ok());
    }
}

/// An executable script in a new folder.
fn script(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("python3");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    (folder, path)
}

#[test]
fn a_process_that_dies_takes_only_its_file_with_it() {
    let Some(found) = support::pythons().into_iter().next() else {
        return;
    };
    let (_folder, path) = script(&format!(
        "if mkdir $0.once 2>/dev/null; then echo pyb; read x; echo gone >&2; kill -9 $$; fi\n\
         exec {} \"$@\"",
        found.path.display()
    ));
    let pool = pool(&path, 1, MINUTE);
    let error = pool.compile(Path::new("a.py"), b"x = 1\n", 0).unwrap_err();
    assert!(matches!(error, CompileError::Died { .. }), "{error}");
    assert!(error.to_string().contains("signal: 9") && error.to_string().ends_with("gone"));
    assert!(pool.compile(Path::new("a.py"), b"x = 1\n", 0).is_ok());
}

#[test]
fn a_process_that_hangs_is_killed() {
    let (_folder, path) = script("echo pyb; exec sleep 60");
    let pool = pool(&path, 1, Duration::from_millis(300));
    // More than a pipe holds: it hangs while we write.
    for source in [b"x".repeat(1 << 20).as_slice(), b"x"] {
        let error = pool.compile(Path::new("a.py"), source, 0).unwrap_err();
        assert!(matches!(error, CompileError::Late { .. }), "{error}");
    }
}

#[test]
fn what_is_no_interpreter_is_an_error_of_the_start() {
    let workers = NonZeroUsize::MIN;
    let missing = Pool::new(Path::new("/nonexistent/python3"), workers, MINUTE);
    assert!(matches!(missing, Err(CompileError::Start { .. })));
    let (_folder, path) = script("echo 'no prefix' >&2; exit 3");
    let error = pool(&path, 1, MINUTE)
        .compile(Path::new("a.py"), b"", 0)
        .unwrap_err();
    assert!(
        error.to_string().ends_with("exit status: 3: no prefix"),
        "{error}"
    );
}

#[test]
fn cached_bytecode_is_found_and_equals_a_compile() {
    for found in support::pythons() {
        let answer = probe(&found.path).unwrap();
        let (version, magic) = (answer.python_version(), answer.magic_bytes().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let pool = pool(&found.path, 2, MINUTE);
        let text = b"import os\n\ndef f(a, b='x y'):\n    return a in {'q', '-', b}\n";
        for (level, mode) in [(0, "TIMESTAMP"), (1, "CHECKED_HASH"), (2, "UNCHECKED_HASH")] {
            let source = folder.path().join("a.py");
            fs::write(&source, text).unwrap();
            let line = format!(
                "import py_compile, sys; py_compile.compile(sys.argv[1], optimize={level}, \
                 invalidation_mode=py_compile.PycInvalidationMode.{mode})"
            );
            python(&found.path, &["-c", &line, source.to_str().unwrap()]);
            let tag = answer.cache_tag.as_deref().unwrap();
            let pyc = fs::read(pycache::path(&source, tag, level).unwrap()).unwrap();
            let metadata = fs::metadata(&source).unwrap();
            let stamp = Stamp {
                mtime: metadata.mtime(),
                size: metadata.size(),
            };
            let code = pycache::valid(&pyc, magic, version, stamp, text);
            assert_eq!(code.is_some(), mode != "UNCHECKED_HASH", "{mode}");
            let other = Stamp { size: 1, ..stamp };
            assert_eq!(
                pycache::valid(&pyc, magic, version, other, b"x = 1\n"),
                None
            );
            if let Some(code) = code {
                let fresh = pool.compile(&source, text, level).unwrap();
                let canonical = |code| canonical(code, version, "a.py").unwrap();
                assert_eq!(canonical(code), canonical(&fresh));
            }
        }
    }
}

#[test]
fn threads_share_the_processes() {
    let Some(found) = support::pythons().into_iter().next() else {
        return;
    };
    let pool = pool(&found.path, 2, MINUTE);
    thread::scope(|scope| {
        for number in 0..8_i32 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..20 {
                    let source = format!("x = {}\n", 100_000 + number * 1000 + round);
                    let code = pool
                        .compile(Path::new("a.py"), source.as_bytes(), 0)
                        .unwrap();
                    let value = (100_000 + number * 1000 + round).to_le_bytes();
                    assert!(code.windows(4).any(|window| window == value));
                }
            });
        }
    });
}
