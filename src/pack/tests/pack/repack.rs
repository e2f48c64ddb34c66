//! Packing over an older bundle: what has not changed is copied, and the bytes are those of a fresh
//! packing.

use std::{
    fs::{FileTimes, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use fs_err as fs;
use pybundle_pack::{Kept, Request, Summary};

use crate::{environment::Environment, support::pythons};

/// Modules of the environment.
const MODULES: usize = 300;

/// What happens to the environment, and how many modules must be compiled then.
type Change<'a> = (&'a str, &'a dyn Fn(), u64);

struct Case {
    environment: Environment,
    request: Request,
}

impl Case {
    fn new() -> Option<Self> {
        let python = pythons().into_iter().next()?;
        let environment = Environment::new(&python);
        let files: Vec<(String, String)> = (0..MODULES)
            .map(|n| {
                (
                    format!("p{}/m{n}.py", n % 3),
                    format!("x = {n} * [1.5, 'a']\n"),
                )
            })
            .chain((0..50).map(|n| (format!("p0/d{n}.txt"), "some text ".repeat(n))))
            .collect();
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(name, text)| (&**name, &**text))
            .collect();
        environment.write(&files);
        environment.write(&[("bad.py", "x = = 1\n"), ("empty.py", "")]);
        environment.write(&[("one.py", "x = 1\n"), ("two.py", "x = 2\n")]);
        environment.link("p0/link.txt", "d1.txt");
        environment.link("q/linked.py", "../p0/m3.py");
        // Only what has settled is known by its stamp.
        thread::sleep(Duration::from_millis(2100));
        let request = Request {
            output: Some(environment.top().join("old.pybundle")),
            cache: Some(environment.top().join("cache")),
            ..environment.request()
        };
        Some(Self {
            environment,
            request,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        let site = self.environment.path().join(self.environment.site());
        site.join(name)
    }

    fn output(&self) -> &Path {
        self.request.output.as_deref().unwrap()
    }

    /// Packs over the old bundle, by stamps or by contents; the result is what a fresh packing
    /// gives.
    fn again(&self, request: &Request) -> Summary {
        let (bundle, summary) = self.environment.pack_as(request);
        let fresh = Request {
            output: Some(self.environment.top().join("fresh.pybundle")),
            cache: None,
            ..request.clone()
        };
        let (expected, first) = self.environment.pack_as(&fresh);
        assert_eq!(first.kept, Kept::default());
        let same = fs::read(&bundle.path).unwrap() == fs::read(&expected.path).unwrap();
        assert!(same, "not the bytes of a fresh packing");
        assert_eq!(summary.skipped, first.skipped);
        assert_eq!(summary.warnings, first.warnings);
        fs::remove_file(expected.path).unwrap();
        summary
    }
}

#[test]
fn what_has_not_changed_is_copied() {
    let Some(case) = Case::new() else { return };
    let (bundle, first) = case.environment.pack_as(&case.request);
    let old = fs::read(bundle.path).unwrap();
    let text = case.path("p1/m4.py");
    // Nothing else happens to it: its stamp is known.
    let secret = case.path("p1/m7.py");
    let (size, time) = {
        let data = fs::metadata(&secret).unwrap();
        (data.len(), data.modified().unwrap())
    };
    let changes: [Change<'_>; 10] = [
        ("nothing", &|| (), 0),
        (
            "a source",
            &|| fs::write(&text, "x = 'other'\n").unwrap(),
            1,
        ),
        // Its size and its time are those it had.
        (
            "a source in secret",
            &|| {
                fs::write(&secret, "y = 7 * [1.5, 'a']\n").unwrap();
                let file = fs::OpenOptions::new().write(true).open(&secret).unwrap();
                let times = FileTimes::new().set_modified(time);
                file.file().set_times(times).unwrap();
                assert_eq!(file.metadata().unwrap().len(), size);
            },
            1,
        ),
        (
            "a module more",
            &|| fs::write(case.path("p0/more.py"), "1\n").unwrap(),
            1,
        ),
        (
            "one less",
            &|| fs::remove_file(case.path("p0/m0.py")).unwrap(),
            0,
        ),
        (
            "a mode",
            &|| {
                let mode = Permissions::from_mode(0o600);
                fs::set_permissions(case.path("p2/m2.py"), mode).unwrap();
            },
            0,
        ),
        (
            "a link",
            &|| {
                fs::remove_file(case.path("p0/link.txt")).unwrap();
                symlink("d2.txt", case.path("p0/link.txt")).unwrap();
            },
            0,
        ),
        (
            "a link to a source",
            &|| {
                fs::remove_file(case.path("q/linked.py")).unwrap();
                symlink("../p0/m6.py", case.path("q/linked.py")).unwrap();
            },
            0,
        ),
        // Their code, in a block each, belongs into one.
        (
            "a distribution that owns two modules",
            &|| {
                let files = [
                    ("both-1.dist-info/METADATA", "Name: both\nVersion: 1\n"),
                    ("both-1.dist-info/RECORD", "one.py,,\ntwo.py,,\n"),
                ];
                case.environment.write(&files);
            },
            0,
        ),
        (
            "a file that was a module",
            &|| {
                fs::remove_file(&text).unwrap();
                fs::create_dir(&text).unwrap();
            },
            0,
        ),
    ];
    for (what, change, compiled) in changes {
        change();
        let by_contents = Request {
            check: true,
            ..case.request.clone()
        };
        let before = fs::read(case.output()).unwrap();
        // The record is of the bundle that is there when the first begins.
        for request in [&case.request, &by_contents] {
            // Both find the bundle of before.
            fs::write(case.output(), &before).unwrap();
            let summary = case.again(request);
            // The source that does not compile was tried again, and what a link leads to.
            assert_eq!(summary.code.compiled, compiled + 1, "{what}");
            assert!(summary.code.kept >= MODULES as u64 - 3, "{what}");
            assert!(summary.kept.entries > 300, "{what}: {:?}", summary.kept);
        }
    }
    // Back to what the first packing saw, but for what was made anew: nothing depends on the past.
    assert_eq!(first.kept, Kept::default());
    assert_ne!(fs::read(case.output()).unwrap(), old);
}

#[test]
fn an_old_bundle_that_is_no_help_does_no_harm() {
    let Some(case) = Case::new() else { return };
    let (bundle, first) = case.environment.pack_as(&case.request);
    let whole = fs::read(&bundle.path).unwrap();
    let all = case.again(&case.request).kept.entries;
    // Damaged entries are made anew.
    let code = bundle.index().block(0).unwrap().entry;
    let code = bundle.index().entry(code).unwrap();
    let file = |name| bundle.entry(&format!("{}/{name}", case.environment.site()));
    for entry in [code, file("p0/d7.txt").unwrap(), file("p2/m2.py").unwrap()] {
        let mut bytes = whole.clone();
        bytes[entry.offset as usize] ^= 1;
        fs::write(case.output(), bytes).unwrap();
        assert_eq!(case.again(&case.request).kept.entries, all - 1);
    }
    fs::write(case.output(), &whole[..whole.len() / 2]).unwrap();
    assert_eq!(case.again(&case.request).kept, Kept::default());
    // Another level has other bytes; another record is no record.
    let other = Request {
        level: 3,
        ..case.request.clone()
    };
    assert_eq!(case.again(&other).kept, Kept::default());
    for record in fs::read_dir(case.request.cache.as_ref().unwrap()).unwrap() {
        fs::write(record.unwrap().path(), b"nonsense").unwrap();
    }
    assert_eq!(case.again(&other).kept.entries, all);
    assert_eq!(first.code.kept, 0);
}
