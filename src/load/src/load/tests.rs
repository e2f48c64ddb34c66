//! Loads of one process, from a sample bundle to an image and away again.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Duration,
};

use pybundle_bundle::record::Node;

use super::*;
use crate::{
    image::{self, clean},
    sample::{self, MODULES, SMALL},
    transport::Local,
};

struct Case {
    folder: tempfile::TempDir,
    settings: Settings,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("e.pybundle");
        sample::write(&bundle, Path::new("/nowhere/env"), SMALL);
        let node = folder.path().join("node");
        fs::create_dir(&node).unwrap();
        let settings = Settings {
            bundle,
            node_dir: Some(node),
            strict: true,
            ..Settings::default()
        };
        Self { folder, settings }
    }

    fn load(&self) -> Result<Loaded> {
        load(&self.settings, &mut Local::new(), &mut || Ok(()))
    }

    fn node(&self) -> PathBuf {
        self.folder.path().join("node")
    }

    fn left_behind(&self) -> usize {
        fs::read_dir(self.node()).unwrap().count()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(&self.settings.bundle).unwrap();
        change(&mut bytes);
        fs::write(&self.settings.bundle, bytes).unwrap();
    }
}

fn check_code(image: &Image, modules: std::ops::Range<usize>) {
    let prefix = format!("{}/", image.tree().display());
    for module in modules {
        let folder = image
            .index()
            .find_folder(b"lib/site-packages/pure")
            .unwrap();
        let name = format!("m{module}");
        let (row, _) = image.index().find_module(folder, name.as_bytes()).unwrap();
        let code = image.code(row).unwrap().unwrap();
        let named = module % MODULES != 7;
        let put_in = if named { &*prefix } else { "" };
        let (expected, _) = sample::module_code(module, SMALL.code_len, put_in);
        assert_eq!(code, expected, "module {module}");
    }
}

fn row(image: &Image, path: &str) -> u32 {
    match image.index().find(path.as_bytes()) {
        Some(Node::Entry(row)) => row,
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn what_is_hot_is_in_place_and_the_rest_comes_on_demand() {
    let case = Case::new();
    let loaded = case.load().unwrap();
    let image = loaded.image.as_ref().unwrap();
    for file in 0..SMALL.hot_files {
        let path = image
            .tree()
            .join(format!("share/hot/d{}/f{file}.so", file % 3));
        assert_eq!(
            fs::read(&path).unwrap(),
            sample::content(file as u64 + 77, SMALL.file_len)
        );
        let found = fs::metadata(&path).unwrap();
        assert_eq!(
            (found.permissions().mode() & 0o777, found.mtime()),
            (0o555, 315_532_800)
        );
    }
    assert!(image.is_placed(0));
    assert!(!image.tree().join("lib/site-packages/g0").exists());
    let count = loaded.job.count();
    assert_eq!(count.load_entries.load(Ordering::Relaxed), 21);
    assert_eq!(count.demand_entries.load(Ordering::Relaxed), 0);
    // A process that is alone has the bundle at hand: code is decoded when it is imported.
    check_code(image, 0..1);
    assert_eq!(count.demand_entries.load(Ordering::Relaxed), 1);
    check_code(image, 0..SMALL.hot_blocks * MODULES);
    let blocks = SMALL.hot_blocks as u64;
    assert_eq!(count.demand_entries.load(Ordering::Relaxed), blocks);

    let cold = SMALL.hot_blocks * MODULES;
    check_code(image, cold..cold + SMALL.cold_blocks * MODULES);
    // Group 1 is `g0`, which brings `g1`, which brings `g2`.
    image.place(1).unwrap();
    assert!(image.is_placed(1) && image.is_placed(2) && image.is_placed(3));
    for group in 0..3 {
        let folder = image.tree().join(format!("lib/site-packages/g{group}"));
        let big = sample::content(group, SMALL.file_len * 20);
        assert_eq!(fs::read(folder.join("link.so")).unwrap(), big);
        assert_eq!(
            fs::read_link(folder.join("link.so")).unwrap(),
            Path::new("big.so")
        );
        assert!(folder.join("empty").is_dir());
        assert_eq!(fs::read(folder.join("zero")).unwrap(), b"");
        assert!(!folder.join("tests").exists(), "on request only");
    }
    let lazy = image
        .place_entry(row(image, "lib/site-packages/g1/tests/t.py"))
        .unwrap();
    assert_eq!(fs::read(lazy).unwrap(), b"pass\n");
    image.place_all().unwrap();
    assert_eq!(image.not_placed(), (0, 0));
    assert_eq!(
        fs::read(image.tree().join(sample::module_path(5))).unwrap(),
        b"number = 5\n"
    );
}

#[test]
fn the_code_of_a_package_comes_with_its_files() {
    let case = Case::new();
    let image = case.load().unwrap().image.unwrap();
    let decoded = || {
        [0, 1].map(|row| {
            image
                .site()
                .state()
                .entry(image.index().block(row).unwrap().entry)
        })
    };
    assert_eq!(decoded(), [false, false]);
    image.place(SMALL.groups as u32).unwrap();
    assert_eq!(decoded(), [true, false]);
}

#[test]
fn the_last_one_out_removes_the_image() {
    let case = Case::new();
    let first = case.load().unwrap();
    let dir = first.image.as_ref().unwrap().dir().to_owned();
    let second = case.load().unwrap();
    assert_eq!(second.image.as_ref().unwrap().dir(), dir);
    assert_eq!(
        second.job.count().load_entries.load(Ordering::Relaxed),
        0,
        "attached"
    );
    let child = Image::attach(&dir).unwrap();
    drop(first);
    drop(second);
    check_code(&child, 0..MODULES);
    child.place(2).unwrap();
    assert!(dir.exists());
    drop(child);
    assert_eq!(case.left_behind(), 0);
    assert!(Image::attach(&dir).is_err());
}

#[test]
fn a_kept_image_stays_until_it_is_cleaned() {
    let mut case = Case::new();
    case.settings.keep = true;
    let loaded = case.load().unwrap();
    let dir = loaded.image.as_ref().unwrap().dir().to_owned();
    let held = clean(Some(&case.node()), false).unwrap();
    let of_case = |found: &[image::Cleaned]| {
        let found: Vec<_> = found
            .iter()
            .filter(|found| found.dir == dir)
            .cloned()
            .collect();
        assert_eq!(found.len(), 1);
        found[0].clone()
    };
    assert!(of_case(&held).held);
    drop(loaded);
    // The bundle need not be there any more: all its bytes are on the node.
    fs::remove_file(&case.settings.bundle).unwrap();
    let again = Image::attach(&dir).unwrap();
    again.place_all().unwrap();
    drop(again);
    assert!(!of_case(&clean(Some(&case.node()), true).unwrap()).held);
    assert!(dir.exists());
    of_case(&clean(Some(&case.node()), false).unwrap());
    assert_eq!(case.left_behind(), 0);
}

#[test]
fn all_files_are_placed_on_request() {
    let mut case = Case::new();
    case.settings.keep = true;
    let packed = |image: &Image| fs::metadata(image.dir().join("packed")).unwrap().blocks();
    let image = case.load().unwrap().image.unwrap();
    assert!(packed(&image) > 0 && image.not_placed() != (0, 0));
    drop(image);
    case.settings.all_files = true;
    let image = case.load().unwrap().image.unwrap();
    assert_eq!(image.not_placed(), (0, 0));
    // What is decoded needs no second copy.
    assert_eq!(packed(&image), 0);
    check_code(&image, 0..MODULES);
}

#[test]
fn a_bundle_that_is_wrong_leaves_nothing_behind() {
    let case = Case::new();
    let whole = fs::read(&case.settings.bundle).unwrap();
    let message = |case: &Case| {
        let error = case.load().unwrap_err();
        assert!(error.speaks() && !error.must_abort());
        assert_eq!(case.left_behind(), 0);
        error.to_string()
    };
    case.change(|bytes| bytes.truncate(bytes.len() / 2));
    assert!(message(&case).starts_with("bundle is truncated"));
    case.change(|bytes| *bytes = b"hello".to_vec());
    assert!(message(&case).starts_with("not a pybundle file"));
    fs::write(&case.settings.bundle, &whole).unwrap();
    case.change(|bytes| bytes.truncate(0));
    assert!(message(&case).starts_with("not a pybundle file"));
    fs::remove_file(&case.settings.bundle).unwrap();
    assert!(message(&case).contains("e.pybundle"));
}

#[test]
fn a_flipped_byte_is_found_wherever_it_is() {
    for (keep, step) in [(false, 4999), (true, 7993)] {
        let mut case = Case::new();
        case.settings.keep = keep;
        let whole = fs::read(&case.settings.bundle).unwrap();
        for at in (0..whole.len()).step_by(step) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            fs::write(&case.settings.bundle, bytes).unwrap();
            let refused = match case.load() {
                Err(_) => true,
                Ok(loaded) => loaded.image.unwrap().place_all().is_err(),
            };
            assert!(refused, "byte {at}");
            clean(Some(&case.node()), false).unwrap();
            assert_eq!(case.left_behind(), 0, "byte {at}");
        }
    }
}

#[test]
fn a_bundle_that_changes_under_a_run_is_named() {
    let case = Case::new();
    let loaded = case.load().unwrap();
    let image = loaded.image.unwrap();
    let other = Image::attach(image.dir()).unwrap();
    case.change(|bytes| bytes.truncate(1000));
    let error = other.place(1).unwrap_err().to_string();
    assert!(
        error.starts_with("bundle has changed or vanished"),
        "{error}"
    );
    let error = image.place(1).unwrap_err().to_string();
    assert!(error.contains("it ends before"), "{error}");
}

#[test]
fn an_interrupted_load_ends_and_leaves_nothing() {
    let case = Case::new();
    // A pipe that nobody writes to: opening it takes for ever.
    let mut settings = case.settings.clone();
    settings.bundle = case.folder.path().join("fifo");
    nix::unistd::mkfifo(&settings.bundle, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut ticks = 0;
    let mut tick = || {
        ticks += 1;
        if ticks < 3 { Ok(()) } else { Err(Interrupted) }
    };
    let error = load(&settings, &mut Local::new(), &mut tick).unwrap_err();
    assert!(error.interrupted() && error.speaks() && !error.must_abort());
    settings.timeout = Some(Duration::from_millis(200));
    let error = load(&settings, &mut Local::new(), &mut || Ok(()))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("waits for the bundle to be opened"),
        "{error}"
    );
    assert_eq!(case.left_behind(), 0);
}
