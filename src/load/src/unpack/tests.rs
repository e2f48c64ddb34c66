//! Sample bundles unpacked; bad ones refused.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use pybundle_bundle::{
    Draft, Index, Writer,
    draft::{DraftBlock, DraftEntry, DraftModule},
    layout,
    record::{ModuleKind, Node},
    writer::{Compressor, Packed},
};

use super::*;
use crate::sample::{self, MODULES, SMALL, Shape, module_code, module_path};

struct Case {
    folder: tempfile::TempDir,
}

impl Case {
    /// With the sample bundle.
    fn new() -> Self {
        let case = Self::empty();
        sample::write(&case.bundle(), Path::new("/nowhere/env"), SMALL);
        case
    }

    fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        Self { folder }
    }

    fn top(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    fn bundle(&self) -> PathBuf {
        self.top().join("e.pybundle")
    }

    fn place(&self) -> PathBuf {
        self.top().join("place")
    }

    fn unpack(&self) -> Result<Unpacked> {
        unpack(&self.bundle(), &self.place(), &mut |_, _| Ok(()))
    }

    /// Refused, and as if nothing had been tried; the message.
    fn refused(&self) -> String {
        let message = self.unpack().unwrap_err().to_string();
        self.is_untouched();
        message
    }

    fn is_untouched(&self) {
        let mut names: Vec<_> = fs::read_dir(self.top())
            .unwrap()
            .map(|item| item.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["e.pybundle", "outside"]);
        assert!(
            fs::read_dir(self.top().join("outside"))
                .unwrap()
                .next()
                .is_none()
        );
    }

    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.bundle()).unwrap();
        change(&mut bytes);
        fs::write(self.bundle(), bytes).unwrap();
    }

    fn head(&self) -> Head {
        Head::read(&mut File::open(self.bundle()).unwrap()).unwrap()
    }

    /// A bundle of these entries; sources are modules, all of whose code is "code".
    fn write(&self, entries: &[(&[u8], Kind, u32, &[u8])]) {
        let mut draft = Draft::default();
        let mut packed = Vec::new();
        let mut compressor = Compressor::new(1).unwrap();
        let mut code = Vec::new();
        for (path, kind, mode, content) in entries {
            let path = path.to_vec();
            let (folder, last) = pybundle_bundle::name::split(&path);
            if let Some(stem) = last.strip_suffix(b".py") {
                draft.modules.push(DraftModule {
                    folder: folder.to_vec(),
                    name: stem.to_vec(),
                    kind: ModuleKind::Source,
                    file: draft.entries.len(),
                    package: false,
                    code: Some((4, None)),
                    group: None,
                });
                code.extend(b"code");
            }
            draft.entries.push(DraftEntry {
                path,
                kind: *kind,
                mode: *mode,
                flags: 0,
                group: None,
            });
            packed.push(compressor.pack(content).unwrap());
        }
        if !code.is_empty() {
            draft.blocks.push(DraftBlock {
                entry: draft.entries.len(),
                modules: draft.modules.len(),
            });
            draft.entries.push(DraftEntry {
                path: b"META-INF/pybundle/code/0".to_vec(),
                kind: Kind::Code,
                mode: 0o644,
                flags: 0,
                group: None,
            });
            packed.push(Packed::stored(code));
        }
        let manifest = sample::manifest(Path::new("/nowhere/env"));
        let file = fs::File::create(self.bundle()).unwrap();
        let mut writer = Writer::new(file, &draft, &manifest).unwrap();
        for packed in &packed {
            writer.append(packed).unwrap();
        }
        writer.finish().unwrap();
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn files(folder: &Path) -> u64 {
    let items = fs::read_dir(folder).unwrap();
    items
        .map(|item| item.unwrap())
        .map(|item| match item.file_type().unwrap() {
            kind if kind.is_dir() => files(&item.path()),
            kind => u64::from(kind.is_file()),
        })
        .sum()
}

#[test]
fn everything_is_as_it_was_packed() {
    let case = Case::new();
    let unpacked = case.unpack().unwrap();
    let place = case.place();
    assert_eq!(unpacked.folder, place);
    let index = case.head().index;
    let mut decoder = pybundle_bundle::reader::Decoder::new().unwrap();
    let bundle = fs::read(case.bundle()).unwrap();
    let (mut files_and_bytes, mut links) = ((0, 0), 0);
    for entry in (1..index.entries()).filter_map(|row| index.entry(row)) {
        let name = index.entry_name(&entry);
        let path = place.join(name.trim_end_matches('/'));
        let stored = &bundle[entry.offset as usize..(entry.offset + entry.stored) as usize];
        let mut content = vec![0; entry.size as usize];
        decoder
            .decode(&index, &entry, stored, &mut content)
            .unwrap();
        match Kind::from_number(entry.kind) {
            Some(Kind::File) => {
                assert!(fs::read(&path).unwrap() == content, "{name}");
                assert_eq!(mode(&path), entry.mode & 0o777, "{name}");
                files_and_bytes = (files_and_bytes.0 + 1, files_and_bytes.1 + entry.size);
            }
            Some(Kind::Link) => {
                let target = fs::read_link(&path).unwrap();
                assert_eq!(target.as_os_str().as_encoded_bytes(), content);
                links += 1;
            }
            Some(Kind::Folder) => assert!(fs::read_dir(&path).unwrap().next().is_none()),
            _ => assert!(!path.exists(), "{name} is the format's own"),
        }
    }
    assert_eq!((unpacked.files, unpacked.bytes), files_and_bytes);
    assert_eq!(unpacked.links, links);
    assert!(links > 0);
    // Nothing else but bytecode.
    assert_eq!(files(&place), unpacked.files + unpacked.modules);
    assert_eq!(fs::read_dir(case.top()).unwrap().count(), 3);
}

#[test]
fn bytecode_names_the_place_and_is_not_compared_with_sources() {
    let case = Case::new();
    let unpacked = case.unpack().unwrap();
    let modules = (SMALL.hot_blocks + SMALL.cold_blocks) * MODULES;
    assert_eq!(unpacked.modules, modules as u64);
    for number in 0..modules {
        let prefix = format!("{}/", case.place().display());
        // Where no file name is known, there is none to put in.
        let prefix = if number % MODULES == 7 { "" } else { &prefix };
        let (code, _) = module_code(number, SMALL.code_len, prefix);
        let source = case.place().join(module_path(number));
        let manifest = sample::manifest(Path::new("/"));
        let cached = crate::image::interpreter::cached(&manifest, &source).unwrap();
        let got = fs::read(cached).unwrap();
        assert_eq!(got[..16], *b"\xa7\x0d\x0d\x0a\x01\0\0\0\0\0\0\0\0\0\0\0");
        assert!(got[16..] == code, "module {number}");
    }
}

#[test]
fn a_flipped_byte_anywhere_is_refused_by_name() {
    let case = Case::new();
    let index = case.head().index;
    let header = index.header();
    let differ = "header bytes differ";
    let mut flips = vec![
        (5, differ, None),
        (layout::index_offset() as usize + 700, differ, None),
        (header.directory as usize + 3, differ, None),
        (header.file_len as usize - 1, differ, None),
    ];
    // A third of the entries, in turn: its header, or its stored bytes.
    for row in (0..index.entries()).step_by(3) {
        let entry = index.entry(row).unwrap();
        let name = (row > 0).then(|| index.entry_name(&entry));
        flips.push(if row % 2 == 0 || entry.stored == 0 {
            (entry.offset as usize - 3, differ, name)
        } else {
            let middle = entry.offset + entry.stored / 2;
            (middle as usize, "SHA-256", name)
        });
    }
    for (place, why, name) in flips {
        case.change(|bytes| bytes[place] ^= 0x10);
        let message = case.refused();
        assert!(message.contains(why), "{place}: {message}");
        if let Some(name) = name {
            let expected = format!("`{name}` of bundle `{}`", case.bundle().display());
            assert!(message.ends_with(&expected), "{message}");
        }
        case.change(|bytes| bytes[place] ^= 0x10);
    }
    case.unpack().unwrap();
}

#[test]
fn what_is_cut_off_or_no_bundle_is_refused() {
    let case = Case::new();
    let whole = fs::read(case.bundle()).unwrap();
    for len in [0, 4, 60, 400, whole.len() / 2, whole.len() - 1] {
        fs::write(case.bundle(), &whole[..len]).unwrap();
        case.refused();
    }
    fs::write(case.bundle(), [&whole[..], b"x"].concat()).unwrap();
    assert!(case.refused().contains("followed by other bytes"));
    fs::write(case.bundle(), "#!/bin/sh\n".repeat(100)).unwrap();
    assert!(case.refused().contains("not a pybundle file"));
}

#[test]
fn an_interrupted_one_leaves_nothing() {
    let case = Case::new();
    for calls in [1, 20] {
        let mut left = calls;
        let error = unpack(&case.bundle(), &case.place(), &mut |done, total| {
            assert!(done <= total);
            left -= 1;
            if left == 0 { Err(Interrupted) } else { Ok(()) }
        });
        assert!(matches!(error, Err(Error::Interrupted(_))));
        case.is_untouched();
    }
}

#[test]
fn permissions_are_those_that_were_packed() {
    let case = Case::empty();
    case.write(&[
        (b"bin/run", Kind::File, 0o4755, b"x"),
        (b"open", Kind::File, 0o666, b"x"),
        (b"private", Kind::Folder, 0o700, b""),
        (b"secret.py", Kind::File, 0o400, b"x"),
        (b"shared", Kind::Folder, 0o775, b""),
        (b"unreadable", Kind::File, 0, b"x"),
    ]);
    case.unpack().unwrap();
    for (name, expected) in [
        ("bin/run", 0o755),
        ("open", 0o666),
        ("private", 0o700),
        ("secret.py", 0o400),
        ("shared", 0o775),
        ("unreadable", 0),
        // No more than its source lets others see.
        ("__pycache__/secret.cpython-311.pyc", 0o600),
    ] {
        assert_eq!(mode(&case.place().join(name)), expected, "{name}");
    }
}

#[test]
fn what_the_environment_has_for_itself_stays() {
    let case = Case::empty();
    let long = [&b"n".repeat(250)[..], b".py"].concat();
    case.write(&[
        (b"a.py", Kind::File, 0o644, b"x"),
        (b"__pycache__/a.cpython-311.pyc", Kind::File, 0o644, b"own"),
        (b"__pycache__/index.nbi", Kind::File, 0o644, b"numba's"),
        (b"b.py", Kind::File, 0o644, b"x"),
        (b"link/c.py", Kind::File, 0o644, b"x"),
        (b"link/__pycache__", Kind::Link, 0o777, b"../outside"),
        (b"file/d.py", Kind::File, 0o644, b"x"),
        (b"file/__pycache__", Kind::File, 0o644, b""),
        (&long, Kind::File, 0o644, b"x"),
        (b"n\xff.txt", Kind::File, 0o644, b"not UTF-8"),
    ]);
    let unpacked = case.unpack().unwrap();
    assert_eq!(unpacked.modules, 1);
    let read = |name: &str| fs::read(case.place().join(name)).unwrap();
    assert_eq!(read("__pycache__/a.cpython-311.pyc"), b"own");
    assert_eq!(read("__pycache__/index.nbi"), b"numba's");
    assert!(read("__pycache__/b.cpython-311.pyc").ends_with(b"code"));
    assert_eq!(read("file/__pycache__"), b"");
    assert!(
        fs::symlink_metadata(case.place().join("link/__pycache__"))
            .unwrap()
            .is_symlink()
    );
    let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"n\xff.txt");
    assert_eq!(fs::read(case.place().join(name)).unwrap(), b"not UTF-8");
}

#[test]
fn a_bundle_with_files_below_a_link_is_refused() {
    let case = Case::empty();
    let outside = case.top().join("outside");
    let target = outside.as_os_str().as_encoded_bytes();
    case.write(&[
        (b"a/k", Kind::Link, 0o777, target),
        (b"a/m/file", Kind::File, 0o644, b"x"),
    ]);
    // No writer makes it: the folder gets the link's name wherever it is written.
    let index_len = case.head().index.header().index_len as usize;
    case.change(|bytes| {
        while let Some(at) = bytes.windows(3).position(|part| part == b"a/m") {
            bytes[at + 2] = b'k';
        }
        let start = layout::index_offset() as usize;
        let index = Index::open(bytes[start..start + index_len].to_vec()).unwrap();
        bytes[..start].copy_from_slice(&layout::index_header(&index));
        bytes.truncate(index.header().directory as usize);
        bytes.extend(layout::directory(&index));
        // All but that one rule holds: a reader that believed it would find both.
        let found = |name: &[u8]| index.find(name).is_some();
        assert!(found(b"a/k"));
        let folders = (0..index.folders()).filter_map(|row| index.path(Node::Folder(row)));
        assert!(folders.into_iter().any(|path| path == b"a/k"));
    });
    let message = case.refused();
    assert!(message.contains("twice"), "{message}");
}

/// Whatever an index might get past its checks.
#[test]
fn nothing_is_written_through_a_link() {
    let case = Case::empty();
    case.write(&[
        (b"a/m/file", Kind::File, 0o644, b"x"),
        (b"a/m/empty", Kind::Folder, 0o755, b""),
        (b"a/m/link", Kind::Link, 0o777, b"x"),
        (b"a/s.py", Kind::File, 0o644, b"x"),
    ]);
    let outside = case.top().join("outside");
    let target = Target::new(&case.place()).unwrap();
    let made = target.create().unwrap();
    fs::create_dir(made.folder().join("a")).unwrap();
    for link in ["a/m", "a/s.py", "a/__pycache__"] {
        symlink(&outside, made.folder().join(link)).unwrap();
    }
    let bundle = case.bundle();
    let file = (&*bundle, fs::File::open(&bundle).unwrap());
    let plan = Plan::new(file, case.head(), &target, made.folder());
    let mut worker = Worker::new(&plan).unwrap();
    for row in 1..plan.index.entries() {
        let entry = plan.index.entry(row).unwrap();
        let error = worker.entry(row, &entry).unwrap_err().to_string();
        assert!(error.starts_with("cannot "), "{error}");
        assert!(error.contains(&plan.index.entry_name(&entry)), "{error}");
    }
    drop(made);
    case.is_untouched();
}

#[test]
fn large_files_and_many_are_unpacked() {
    let case = Case::empty();
    let shape = Shape {
        group_files: 60,
        file_len: 500_000,
        groups: 1,
        ..SMALL
    };
    sample::write(&case.bundle(), Path::new("/nowhere/env"), shape);
    let unpacked = case.unpack().unwrap();
    assert!(unpacked.bytes > 30_000_000);
    let big = case.place().join("lib/site-packages/g0/big.so");
    assert!(fs::read(big).unwrap() == sample::content(0, 10_000_000));
}
