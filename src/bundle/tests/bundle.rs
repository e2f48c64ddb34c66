//! A bundle written and read back: every byte is protected, and strangers can read it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{collections::BTreeMap, io::Cursor, path::Path};

use proptest::prelude::*;
use pybundle_bundle::{
    Draft, Error, Head, Manifest, Writer,
    draft::{DraftBlock, DraftEntry, DraftGroup, DraftModule},
    layout, limits, manifest, reader,
    record::{self, Kind, ModuleKind, Node},
    writer::{Compressor, Packed},
};

fn manifest() -> Manifest {
    Manifest {
        format: "1.0".into(),
        writer: "test".into(),
        python: manifest::Python {
            implementation: "cpython".into(),
            version: "3.11.7".into(),
            version_text: String::new(),
            cache_tag: "cpython-311".into(),
            magic: "a70d0d0a".into(),
            soabi: String::new(),
            platform: "linux-x86_64".into(),
            free_threaded: false,
            extension_suffixes: vec![".so".into()],
            prefix: "/env".into(),
            base_prefix: "/usr".into(),
            executable: None,
            libpython: None,
            builds: vec![],
        },
        optimize: vec![0],
        glibc: None,
        roots: vec![manifest::Root {
            folder: String::new(),
            paths: vec!["/env".into()],
        }],
        sys_path: vec!["site".into()],
        left_out: Vec::new(),
        pth: vec![],
        editable: vec![],
        mpi: vec![],
        counts: manifest::Counts::default(),
        options: manifest::Options::default(),
        installed: vec![],
    }
}

/// Name, kind, mode, distribution and content of an entry.
type Part<'a> = (&'a [u8], Kind, u32, Option<usize>, Vec<u8>);

/// One package, one module, a library and its need, a link, an empty folder, a name in Latin-1.
fn sample() -> (Draft, Vec<Vec<u8>>) {
    let code = b"\xe3codecode".repeat(40);
    let parts: Vec<Part<'_>> = vec![
        (
            b"META-INF/pybundle/code/p-0.code",
            Kind::Code,
            0o644,
            None,
            code,
        ),
        (
            b"site/p/__init__.py",
            Kind::File,
            0o644,
            Some(0),
            b"import p.m\n".repeat(30),
        ),
        (
            b"site/p/m.so",
            Kind::File,
            0o755,
            Some(0),
            (0..=255).collect(),
        ),
        (
            b"site/p.libs/l.so",
            Kind::File,
            0o755,
            Some(0),
            vec![7; 9000],
        ),
        (b"site/p/data\xff", Kind::File, 0o4600, Some(0), vec![]),
        (
            b"bin/python",
            Kind::Link,
            0o777,
            Some(1),
            b"/usr/bin/python3".to_vec(),
        ),
        (b"var/empty", Kind::Folder, 0o755, Some(1), vec![]),
    ];
    let draft = Draft {
        entries: parts
            .iter()
            .map(|(path, kind, mode, group, _)| DraftEntry {
                path: path.to_vec(),
                kind: *kind,
                mode: *mode,
                flags: 0,
                group: *group,
            })
            .collect(),
        hot: 1,
        modules: vec![
            DraftModule {
                folder: b"site".to_vec(),
                name: b"p".to_vec(),
                kind: ModuleKind::Source,
                file: 1,
                package: true,
                code: Some((9 * 40, Some(5))),
                group: Some(0),
            },
            DraftModule {
                folder: b"site/p".to_vec(),
                name: b"m".to_vec(),
                kind: ModuleKind::Extension,
                file: 2,
                package: false,
                code: None,
                group: Some(0),
            },
        ],
        blocks: vec![DraftBlock {
            entry: 0,
            modules: 1,
        }],
        groups: vec![
            DraftGroup {
                name: "p".into(),
                companions: vec![1],
                eager: false,
            },
            DraftGroup {
                name: "bin".into(),
                companions: vec![],
                eager: true,
            },
        ],
        needs: BTreeMap::from([(2, vec![3])]),
    };
    (draft, parts.into_iter().map(|part| part.4).collect())
}

fn write(draft: &Draft, contents: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new()), draft, &manifest()).unwrap();
    let mut compressor = Compressor::new(3).unwrap();
    for (entry, content) in draft.entries.iter().zip(contents) {
        let packed = if entry.kind == Kind::Link {
            Packed::stored(content.clone())
        } else {
            compressor.pack(content).unwrap()
        };
        writer.append(&packed).unwrap();
    }
    writer.finish().unwrap().0.into_inner()
}

fn verify(folder: &Path, bytes: &[u8]) -> Result<reader::Verdict, Error> {
    let path = folder.join("b.pybundle");
    fs_err::write(&path, bytes).unwrap();
    reader::verify(&path, |_| {})
}

#[test]
fn what_is_written_is_found() {
    let (draft, contents) = sample();
    let bytes = write(&draft, &contents);
    let folder = tempfile::tempdir().unwrap();
    let verdict = verify(folder.path(), &bytes).unwrap();
    assert_eq!(verdict.entries, 8);
    assert_eq!(verdict.file_len, bytes.len() as u64);

    let mut file = fs_err::File::open(folder.path().join("b.pybundle")).unwrap();
    let head = Head::read(&mut file).unwrap();
    let index = &head.index;
    assert_eq!(head.manifest, manifest());
    let site = index.find_folder(b"site").unwrap();
    let (row, package) = index.find_module(site, b"p").unwrap();
    assert_eq!((row, package.filename_at), (0, 5));
    let home = record::some(package.package).unwrap();
    let (_, module) = index.find_module(home, b"m").unwrap();
    assert!(index.find_module(home, b"p").is_none());
    let needs: Vec<u32> = index.needs(module.file).collect();
    assert_eq!(index.find(b"site/p.libs/l.so"), Some(Node::Entry(needs[0])));
    assert!(index.find(b"site/p.libs/l").is_none());
    let names: Vec<&[u8]> = index
        .children(&index.folder(home).unwrap())
        .map(|node| index.path(node).unwrap())
        .collect();
    assert_eq!(
        names,
        [
            &b"site/p/__init__.py"[..],
            b"site/p/data\xff",
            b"site/p/m.so"
        ]
    );
    let group = index.group(0).unwrap();
    assert_eq!(index.group_entries(&group).count(), 4);
    assert_eq!(index.companions(&group).collect::<Vec<_>>(), [1]);
    let Some(Node::Entry(odd)) = index.find(b"site/p/data\xff") else {
        panic!()
    };
    let odd = index.entry(odd).unwrap();
    assert_eq!(
        (index.entry_name(&odd).as_str(), odd.mode),
        ("site/p/data%FF", 0o100_600)
    );
}

#[test]
fn contents_come_back() {
    let (draft, contents) = sample();
    let bytes = write(&draft, &contents);
    let mut archive = zip::ZipArchive::new(Cursor::new(&bytes)).unwrap();
    assert_eq!(archive.len(), contents.len() + 2);
    assert_eq!(
        archive.by_index(0).unwrap().name().unwrap(),
        limits::INDEX_NAME
    );
    let index_at = layout::index_offset() as usize;
    let index_len = archive.by_index(0).unwrap().size() as usize;
    let index = pybundle_bundle::Index::open(&bytes[index_at..index_at + index_len]).unwrap();
    let mut decoder = reader::Decoder::new().unwrap();
    for (row, content) in contents.iter().enumerate() {
        let entry = index.entry(row as u32 + 1).unwrap();
        let stored = &bytes[entry.offset as usize..(entry.offset + entry.stored) as usize];
        let mut out = vec![0; entry.size as usize];
        decoder.decode(&index, &entry, stored, &mut out).unwrap();
        assert_eq!(&out, content);
    }
}

#[test]
fn every_flipped_byte_is_refused() {
    let (draft, contents) = sample();
    let bytes = write(&draft, &contents);
    let folder = tempfile::tempdir().unwrap();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x20;
        assert!(
            verify(folder.path(), &flipped).is_err(),
            "byte {at} of {}",
            bytes.len()
        );
    }
}

#[test]
fn every_truncation_is_refused() {
    let (draft, contents) = sample();
    let bytes = write(&draft, &contents);
    let folder = tempfile::tempdir().unwrap();
    for len in 0..bytes.len() {
        let error = verify(folder.path(), &bytes[..len]).unwrap_err();
        let named = matches!(error, Error::Length { .. } | Error::NotABundle { .. });
        assert!(named, "cut at {len}: {error}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(matches!(
        verify(folder.path(), &longer),
        Err(Error::Length { .. })
    ));
}

#[test]
fn another_major_version_is_named() {
    let (draft, contents) = sample();
    let mut bytes = write(&draft, &contents);
    bytes[layout::index_offset() as usize + 8] = 9;
    let folder = tempfile::tempdir().unwrap();
    let error = verify(folder.path(), &bytes).unwrap_err().to_string();
    assert_eq!(error, "bundle has format 9, this pybundle reads format 1");
}

#[test]
fn structure_check_sees_headers_in_any_pieces() {
    let (draft, contents) = sample();
    let bytes = write(&draft, &contents);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.pybundle");
    fs_err::write(&path, &bytes).unwrap();
    let head = Head::read(&mut fs_err::File::open(&path).unwrap()).unwrap();
    let header_of_last = head.index.entry(7).unwrap().offset as usize - 1;
    for piece in [1, 7, 100, 1 << 20] {
        for flip in [None, Some(header_of_last), Some(bytes.len() - 3)] {
            let mut bytes = bytes.clone();
            if let Some(at) = flip {
                bytes[at] ^= 1;
            }
            let mut check = reader::Structure::new();
            let mut verdict = Ok(());
            for (number, part) in bytes.chunks(piece).enumerate() {
                verdict =
                    verdict.and_then(|()| check.check(&head.index, (number * piece) as u64, part));
            }
            match flip {
                None => verdict.unwrap(),
                Some(at) => assert!(
                    matches!(verdict, Err(Error::Structure { offset }) if offset == at as u64)
                ),
            }
        }
    }
}

#[test]
fn drafts_that_contradict_themselves_are_refused() {
    let (draft, _) = sample();
    let mut twice = draft.clone();
    twice.entries[2].path = twice.entries[1].path.clone();
    let mut escaping = draft.clone();
    escaping.entries[1].path = b"../x".to_vec();
    let mut through = draft.clone();
    through.entries[3].path = b"site/p/m.so/below".to_vec();
    for draft in [twice, escaping, through] {
        assert!(Writer::new(Cursor::new(Vec::new()), &draft, &manifest()).is_err());
    }
    let writer = Writer::new(Cursor::new(Vec::new()), &draft, &manifest()).unwrap();
    assert!(writer.finish().is_err(), "entries are missing");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any set of files gives a bundle that verifies, and the same bytes twice.
    #[test]
    fn any_tree_round_trips(
        files in prop::collection::btree_map("[a-c]{1,2}(/[a-cé%]{1,3}){0,3}\\.x", prop::collection::vec(any::<u8>(), 0..200), 0..40)
    ) {
        let draft = Draft {
            entries: files
                .keys()
                .map(|path| DraftEntry { path: path.clone().into(), kind: Kind::File, mode: 0o644, flags: 0, group: None })
                .collect(),
            ..Draft::default()
        };
        let contents: Vec<Vec<u8>> = files.into_values().collect();
        let bytes = write(&draft, &contents);
        prop_assert_eq!(&bytes, &write(&draft, &contents));
        let folder = tempfile::tempdir().unwrap();
        prop_assert!(verify(folder.path(), &bytes).is_ok());
    }

    /// Any bytes where an index should be are refused, never a panic.
    #[test]
    fn damaged_indexes_never_panic(at in 0usize..4000, value in any::<u8>(), len in 0usize..4000) {
        let (draft, contents) = sample();
        let bytes = write(&draft, &contents);
        let start = layout::index_offset() as usize;
        let mut index = bytes[start..].to_vec();
        let place = at % index.len();
        index[place] = value;
        index.truncate(len.max(limits::HEADER).min(index.len()));
        if let Ok(index) = pybundle_bundle::Index::open(&index[..]) {
            let _ = index.validate();
        }
        let whole = u64::from_le_bytes(index.get(16..24).unwrap().try_into().unwrap()) as usize;
        if let Some(Ok(index)) = index.get(..whole).map(pybundle_bundle::Index::open) {
            let _ = index.validate();
        }
    }
}
