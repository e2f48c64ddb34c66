//! What readers do most, on a real bundle: `BUNDLE=env.pybundle cargo bench -p readbench`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "criterion's macros; a bench"
)]

use std::{env, hint::black_box, os::unix::fs::FileExt as _};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fs_err::File;
use pybundle_bundle::{
    Head, Index,
    reader::{self, Decoder},
    record::{Entry, Kind},
};

/// As much of the bundle is hashed and decoded.
const BYTES: u64 = 64 << 20;

struct Subject {
    path: String,
    index: Index<Vec<u8>>,
    /// Code blocks and files as they are stored, in file order.
    stored: Vec<(Entry, Vec<u8>)>,
}

impl Subject {
    fn open() -> Self {
        let path = env::var("BUNDLE").expect("BUNDLE names a bundle");
        let mut file = File::open(&path).unwrap();
        let index = Head::read(&mut file).unwrap().index;
        let mut room = BYTES;
        let stored = (1..index.entries()).map_while(|row| {
            let entry = index.entry(row)?;
            room = room.checked_sub(entry.stored)?;
            let mut bytes = vec![0; entry.stored as usize];
            file.file().read_exact_at(&mut bytes, entry.offset).unwrap();
            Some((entry, bytes))
        });
        let stored = stored.collect();
        Self {
            path,
            index,
            stored,
        }
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &(Entry, Vec<u8>)> {
        let is = move |(entry, _): &&(Entry, Vec<u8>)| entry.kind == kind as u8;
        self.stored.iter().filter(is)
    }
}

fn searching(criterion: &mut Criterion) {
    let subject = Subject::open();
    let index = &subject.index;
    let modules: Vec<(u32, Vec<u8>)> = (0..index.modules())
        .filter_map(|row| index.module(row))
        .map(|module| (module.folder, index.text(module.name).to_vec()))
        .collect();
    let paths: Vec<Vec<u8>> = (1..index.entries())
        .filter_map(|row| index.entry(row))
        .filter(|entry| entry.kind == Kind::File as u8)
        .map(|entry| index.text(entry.path).to_vec())
        .collect();
    let mut group = criterion.benchmark_group("index");
    group.bench_function("read and validate", |bencher| {
        bencher.iter(|| {
            Head::read(&mut File::open(&subject.path).unwrap())
                .unwrap()
                .identity
        });
    });
    group.throughput(Throughput::Elements(modules.len() as u64));
    group.bench_function("modules that are there", |bencher| {
        bencher.iter(|| {
            let found =
                |(folder, name): &(u32, Vec<u8>)| index.find_module(*folder, name).is_some();
            assert!(black_box(&modules).iter().all(found));
        });
    });
    let absent: Vec<(u32, Vec<u8>)> = modules
        .iter()
        .map(|(folder, name)| (*folder, [&name[..], b"_absent"].concat()))
        .collect();
    group.bench_function("modules that are not", |bencher| {
        bencher.iter(|| {
            let found =
                |(folder, name): &(u32, Vec<u8>)| index.find_module(*folder, name).is_some();
            assert!(!black_box(&absent).iter().any(found));
        });
    });
    group.throughput(Throughput::Elements(paths.len() as u64));
    group.bench_function("paths", |bencher| {
        bencher.iter(|| {
            assert!(
                black_box(&paths)
                    .iter()
                    .all(|path| index.find(path).is_some())
            );
        });
    });
    group.finish();
}

fn loading(criterion: &mut Criterion) {
    let subject = Subject::open();
    let mut group = criterion.benchmark_group("entries");
    group.sample_size(10);
    let stored = subject.stored.iter().map(|(entry, _)| entry.stored).sum();
    group.throughput(Throughput::Bytes(stored));
    group.bench_function("verify", |bencher| {
        bencher.iter(|| {
            for (entry, bytes) in &subject.stored {
                reader::check(&subject.index, entry, bytes).unwrap();
            }
        });
    });
    for (name, kind) in [("decode code", Kind::Code), ("decode files", Kind::File)] {
        let size = subject.of(kind).map(|(entry, _)| entry.size).sum();
        group.throughput(Throughput::Bytes(size));
        group.bench_function(name, |bencher| {
            let mut decoder = Decoder::new().unwrap();
            let mut out = Vec::new();
            bencher.iter(|| {
                for (entry, bytes) in subject.of(kind) {
                    out.resize(entry.size as usize, 0);
                    decoder
                        .decode(&subject.index, entry, bytes, &mut out)
                        .unwrap();
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, searching, loading);
criterion_main!(benches);
