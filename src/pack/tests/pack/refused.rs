//! What is refused, with which words, and that nothing is left behind.

use std::{path::Path, sync::Mutex};

use fs_err as fs;
use pybundle_pack::{Error, Phase, Progress, Request, pack};

use crate::{
    environment::{Environment, write},
    support::{Python, pythons},
};

fn python() -> Option<Python> {
    pythons().into_iter().next()
}

fn message(environment: &Path) -> String {
    let error = pack(&Request::new(environment), &()).unwrap_err();
    error.to_string()
}

#[test]
fn what_is_no_environment() {
    let folder = tempfile::tempdir().unwrap();
    let text = message(&folder.path().join("missing"));
    assert!(text.starts_with("environment is not a folder: `"), "{text}");
    let text = message(folder.path());
    assert!(text.contains("no interpreter"), "{text}");
    // A folder whose interpreter belongs elsewhere.
    let Some(python) = python() else { return };
    fs::create_dir_all(folder.path().join("bin")).unwrap();
    std::os::unix::fs::symlink(&python.path, folder.path().join("bin/python3")).unwrap();
    let text = message(folder.path());
    assert!(
        text.starts_with("not a Python environment: its interpreter belongs to `"),
        "{text}"
    );
}

/// An interpreter that says what `edit` makes of what a real one says.
fn pretend(edit: &str) -> Option<String> {
    let python = python()?;
    let environment = Environment::new(&python);
    let real = environment.path().join("bin/python");
    let script = format!("#!/bin/sh\n'{}' \"$@\" | sed -e '{edit}'\n", real.display());
    let fake = environment.path().join("bin/python3");
    fs::remove_file(&fake).unwrap();
    // `bin/python` may be a link to it.
    fs::remove_file(&real).unwrap();
    std::os::unix::fs::symlink(&python.path, &real).unwrap();
    write(&fake, &script);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&fake, mode).unwrap();
    Some(environment.refused(&environment.request()).to_string())
}

#[test]
fn pythons_that_are_not_supported() {
    for (edit, expected) in [
        ("s/\"cpython\"/\"pypy\"/", "got pypy 3."),
        (
            "s/\"version\": \\[3, [0-9]*,/\"version\": [3, 8,/",
            "got CPython 3.8.",
        ),
        (
            "s/\"version\": \\[3, [0-9]*,/\"version\": [3, 99,/",
            "got CPython 3.99.",
        ),
        (
            "s/\"free_threaded\": false/\"free_threaded\": true/",
            "(free-threaded)",
        ),
    ] {
        let Some(text) = pretend(edit) else { return };
        assert!(
            text.starts_with("environment's Python is not supported: expected"),
            "{text}"
        );
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_target_that_is_no_bundle() {
    let Some(python) = python() else { return };
    let environment = Environment::new(&python);
    let mut request = environment.request();
    let output = environment.top().join("notes.txt");
    fs::write(&output, "my notes").unwrap();
    request.output = Some(output.clone());
    assert!(matches!(
        environment.refused(&request),
        Error::Occupied { .. }
    ));
    assert_eq!(fs::read_to_string(&output).unwrap(), "my notes");
    request.output = Some(environment.top().join("no/folder/x"));
    let text = environment.refused(&request).to_string();
    assert!(text.contains("no/folder"), "{text}");
    request.level = 99;
    assert!(matches!(
        environment.refused(&request),
        Error::Level { got: 99 }
    ));
    request.level = 3;
    request.exclude = vec!["[".to_owned()];
    assert!(matches!(environment.refused(&request), Error::Glob { .. }));
}

/// Does something once, when a phase begins.
struct Meddle<F>(Phase, Mutex<Option<F>>);

impl<F: FnOnce() + Send> Progress for Meddle<F> {
    fn update(&self, phase: Phase, _: u64, _: Option<u64>) {
        if phase == self.0
            && let Some(action) = self.1.lock().unwrap().take()
        {
            action();
        }
    }
}

#[test]
fn an_environment_that_changes() {
    let Some(python) = python() else { return };
    for (what, expected) in [
        (0, "expected 4 bytes, got 6"),
        (1, "vanished"),
        (2, "modified"),
    ] {
        let environment = Environment::new(&python);
        environment.write(&[("p/m.py", "x=1\n"), ("p/data", "data")]);
        let file = environment.path().join(environment.site()).join("p/data");
        let changed = file.clone();
        let action = move || match what {
            0 => fs::write(&changed, "longer").unwrap(),
            1 => fs::remove_file(&changed).unwrap(),
            _ => {
                std::thread::sleep(std::time::Duration::from_millis(20));
                fs::write(&changed, "atad").unwrap();
            }
        };
        // The walk is over when code is made.
        let meddle = Meddle(Phase::Compile, Mutex::new(Some(action)));
        let error = pack(&environment.request(), &meddle).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("environment changed while it was read: "),
            "{text}"
        );
        assert!(
            text.contains(expected) && text.contains("p/data`"),
            "{text}"
        );
        assert!(!environment.top().join("env.pybundle").exists());
        environment.refused(&Request::new(environment.top().join("missing")));
    }
}

#[test]
fn a_file_that_cannot_be_read() {
    let Some(python) = python() else { return };
    let environment = Environment::new(&python);
    environment.write(&[("p/secret", "s")]);
    let file = environment.path().join(environment.site()).join("p/secret");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o0);
    fs::set_permissions(&file, mode).unwrap();
    if fs::read(&file).is_ok() {
        eprintln!("not tested, root reads everything: unreadable files");
        return;
    }
    let text = environment.refused(&environment.request()).to_string();
    assert!(text.contains("p/secret"), "{text}");
}
