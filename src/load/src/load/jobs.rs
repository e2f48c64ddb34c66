//! Loads of several ranks on several nodes, in threads.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use super::{threads::Threads, *};
use crate::{
    Receipt,
    image::{claims::Claims, clean, site::CLAIMS, state::Cold},
    sample::{self, SMALL, Shape},
    transport::Local,
};

const WIDE: Shape = Shape {
    hot_blocks: 24,
    code_len: 20_000,
    ..SMALL
};

struct Case {
    folder: tempfile::TempDir,
    nodes: Vec<u32>,
    settings: Settings,
}

impl Case {
    /// Ranks on these nodes, each node with a folder of its own.
    fn new(nodes: &[u32]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("e.pybundle");
        sample::write(&bundle, &folder.path().join("env"), WIDE);
        for node in nodes {
            fs::create_dir_all(folder.path().join(format!("n{node}"))).unwrap();
        }
        let settings = Settings {
            bundle,
            receipt: Some(folder.path().join("r.json")),
            ..Settings::default()
        };
        Self {
            folder,
            nodes: nodes.to_vec(),
            settings,
        }
    }

    fn node_dir(&self, rank: u32) -> PathBuf {
        let node = self.nodes[rank as usize];
        self.folder.path().join(format!("n{node}"))
    }

    fn run<T: Send>(&self, then: impl Fn(u32, Result<Loaded>) -> T + Sync) -> Vec<T> {
        self.run_with(|_, _| {}, then)
    }

    /// A process without ranks, on the first one's node.
    fn alone(&self) -> Loaded {
        load(&self.settings_of(0), &mut Local::new(), &mut || Ok(())).unwrap()
    }

    fn settings_of(&self, rank: u32) -> Settings {
        Settings {
            node_dir: Some(self.node_dir(rank)),
            strict: true,
            ..self.settings.clone()
        }
    }

    fn run_with<T: Send>(
        &self,
        change: impl Fn(u32, &mut Settings) + Sync,
        then: impl Fn(u32, Result<Loaded>) -> T + Sync,
    ) -> Vec<T> {
        Threads::run(&self.nodes, |mut end| {
            let rank = end.rank(Group::WORLD);
            let mut settings = self.settings_of(rank);
            change(rank, &mut settings);
            let loaded = load(&settings, &mut end, &mut || Ok(()));
            let result = then(rank, loaded);
            let mut wait = crate::transport::Wait::asleep("the others", None);
            end.barrier(Group::WORLD, &mut wait).unwrap();
            result
        })
    }

    fn assert_nothing_left(&self) {
        for rank in 0..self.nodes.len() as u32 {
            assert_eq!(fs::read_dir(self.node_dir(rank)).unwrap().count(), 0);
        }
    }
}

#[test]
fn each_node_gets_one_image_and_its_ranks_share_the_work() {
    let case = Case::new(&[0, 0, 0, 0, 1, 1]);
    let bytes = case.run(|rank, loaded| {
        let loaded = loaded.unwrap();
        let image = loaded.image.unwrap();
        assert!(image.dir().starts_with(case.node_dir(rank)));
        for group in 0..image.index().groups() {
            image.place(group).unwrap();
        }
        image.place_all().unwrap();
        assert_eq!(image.not_placed(), (0, 0));
        let big = image.tree().join("lib/site-packages/g2/big.so");
        assert_eq!(
            fs::read(big).unwrap(),
            sample::content(2, SMALL.file_len * 20)
        );
        loaded.job.fell_through(format!("/elsewhere/{rank}"));
        loaded.job.leave();
        loaded.job.count().load_bytes.load(Ordering::Relaxed)
    });
    case.assert_nothing_left();
    let all: u64 = bytes[..4].iter().sum();
    assert_eq!(
        all,
        bytes[4..].iter().sum::<u64>(),
        "each node decodes everything once"
    );
    assert!(
        bytes[..4].iter().all(|&bytes| bytes * 10 <= all * 4),
        "{bytes:?}"
    );

    let receipt = Receipt::read(case.settings.receipt.as_deref().unwrap()).unwrap();
    assert_eq!((receipt.ranks, receipt.nodes.len()), (6, 2));
    assert!(
        receipt
            .nodes
            .iter()
            .all(|node| node.ended && node.not_placed == 0)
    );
    assert_eq!(receipt.total("fall_through"), 6);
    assert_eq!(receipt.nodes[1].ranks[1].fell_through, ["/elsewhere/5"]);
    assert_eq!(receipt.total("load_bytes"), 2 * all);
    assert_eq!(receipt.nodes[1].received, receipt.bytes_broadcast);
    assert!(
        receipt.phases.len() == 6 && receipt.load.len() == 6,
        "{receipt:?}"
    );
    assert!(receipt.text().contains("6 on 2 nodes") && receipt.html().contains("/elsewhere/5"));
}

#[test]
fn a_node_that_has_the_image_takes_no_part() {
    let case = Case::new(&[0, 0, 1]);
    let keep = |rank, settings: &mut Settings| settings.keep = rank == 2;
    let receipt = case.settings.receipt.clone().unwrap();
    case.run_with(keep, |_, loaded| loaded.unwrap().job.leave());
    assert_eq!(fs::read_dir(case.node_dir(0)).unwrap().count(), 0);
    case.run(|_, loaded| loaded.unwrap().job.leave());
    let receipt = Receipt::read(&receipt).unwrap();
    assert!(!receipt.nodes[0].attached && receipt.nodes[1].attached);
    assert_eq!(receipt.nodes[1].received, 0);
    assert_eq!(receipt.load[2].bytes, 0);
    clean(Some(&case.node_dir(2)), false).unwrap();
    case.assert_nothing_left();
}

#[test]
fn if_all_have_it_nothing_but_the_index_is_read() {
    let case = Case::new(&[0, 0, 1]);
    let keep = |_, settings: &mut Settings| settings.keep = true;
    case.run_with(keep, |_, loaded| loaded.unwrap().job.leave());
    case.run(|_, loaded| {
        let loaded = loaded.unwrap();
        loaded.image.as_ref().unwrap().place_all().unwrap();
        loaded.job.leave();
    });
    let receipt = Receipt::read(case.settings.receipt.as_deref().unwrap()).unwrap();
    assert!(receipt.bytes_read < receipt.bundle.bytes / 2 && receipt.bytes_broadcast == 0);
    for rank in 0..3 {
        clean(Some(&case.node_dir(rank)), false).unwrap();
    }
    case.assert_nothing_left();
}

#[test]
fn a_bundle_that_an_image_knows_is_not_read_again() {
    let case = Case::new(&[0, 0, 1]);
    // A file that has only just changed is not trusted.
    std::thread::sleep(std::time::Duration::from_millis(3100));
    let keep = |rank, settings: &mut Settings| settings.keep = rank < 2;
    case.run_with(keep, |_, loaded| loaded.unwrap().job.leave());
    let receipt = || Receipt::read(case.settings.receipt.as_deref().unwrap()).unwrap();
    // The second node has none: its bytes are read all the same.
    let keep = |_, settings: &mut Settings| settings.keep = true;
    case.run_with(keep, |_, loaded| loaded.unwrap().job.leave());
    assert_eq!(receipt().bytes_broadcast, receipt().bundle.bytes);
    case.run(|_, loaded| loaded.unwrap().job.leave());
    assert_eq!((receipt().bytes_read, receipt().bytes_broadcast), (0, 0));
    case.alone().image.unwrap().place_all().unwrap();
    for rank in 0..3 {
        clean(Some(&case.node_dir(rank)), false).unwrap();
    }
    case.assert_nothing_left();
}

#[test]
fn what_a_process_leaves_in_the_bundle_comes_when_a_later_job_wants_it_on_the_node() {
    let case = Case::new(&[0, 0]);
    // A process that is alone leaves code and cold files there.
    let first = case.alone();
    let image = first.image.as_ref().unwrap();
    assert_eq!(image.site().state().cold(), Cold::Bundle);
    assert!(!image.has_hot_code());
    // One like it finds what it needs.
    let second = case.alone();
    let count = |loaded: &Loaded| loaded.job.count().load_entries.load(Ordering::Relaxed);
    assert!(count(&first) > 0 && count(&second) == 0);
    let stays = first.image.clone().unwrap();
    case.run(|_, loaded| {
        let image = loaded.unwrap().image.unwrap();
        assert_eq!(image.site().state().cold(), Cold::Node);
        assert!(image.has_hot_code());
    });
    let receipt = Receipt::read(case.settings.receipt.as_deref().unwrap()).unwrap();
    assert!(!receipt.nodes[0].attached && receipt.total("load_entries") > 0);
    // And so does the next job, which reads nothing.
    case.run(|_, loaded| assert!(loaded.unwrap().image.unwrap().has_hot_code()));
    let receipt = Receipt::read(case.settings.receipt.as_deref().unwrap()).unwrap();
    assert!(receipt.nodes[0].attached && receipt.total("load_entries") == 0);
    assert_eq!(receipt.bytes_broadcast, 0);
    fs::remove_file(&case.settings.bundle).unwrap();
    let later = Image::attach(stays.dir()).unwrap();
    later.place_all().unwrap();
}

#[test]
fn a_job_that_fails_leaves_an_image_in_use_as_it_was() {
    let case = Case::new(&[0, 0]);
    let first = case.alone().image.unwrap();
    let (index, state) = (first.index(), first.site().state());
    let mut blocks = (0..index.blocks()).map(|row| index.block(row).unwrap().entry);
    let block = blocks.find(|&entry| !state.entry(entry)).unwrap();
    // Somebody is at this block all the time, and one rank ends when all bytes have come.
    let claims = Claims::open(&first.dir().join(CLAIMS)).unwrap();
    assert!(claims.try_claim(block, block).unwrap());
    let ended = Threads::run(&case.nodes, |mut end| {
        let leads = end.rank(Group::WORLD) == 0;
        let mut tick = || match state.cold() {
            Cold::Node if !leads => Err(Interrupted),
            _ => Ok(()),
        };
        load(&case.settings_of(0), &mut end, &mut tick).is_err()
    });
    claims.free(block, block);
    assert_eq!(ended, [true, true]);
    assert!(state.is_sparse() && state.cold() == Cold::Node);
    // Who comes has all code, and so has who was there.
    let later = case.alone().image.unwrap();
    for image in [&later, &first] {
        for row in 0..image.index().modules() {
            image.code(row).unwrap();
        }
    }
    case.run(|_, loaded| drop(loaded.unwrap()));
    assert!(!state.is_sparse());
}

#[test]
fn an_environment_that_moved_on_is_said_by_who_reads_the_bundle() {
    let case = Case::new(&[0, 0, 1]);
    let environment = case.folder.path().join("env");
    let site = environment.join(sample::SITE);
    fs::create_dir_all(site.join("a-1.dist-info")).unwrap();
    sample::write(&case.settings.bundle, &environment, WIDE);
    // A file that has only just changed is not trusted.
    std::thread::sleep(std::time::Duration::from_millis(3100));
    let changed = |keep| {
        case.run_with(
            |_, settings| settings.keep = keep,
            |_, loaded| loaded.unwrap().job.leave(),
        );
        let receipt = Receipt::read(case.settings.receipt.as_deref().unwrap()).unwrap();
        let shown = receipt.text().contains("has changed since it was packed");
        assert_eq!(shown, receipt.environment_changed.is_some());
        receipt.environment_changed
    };
    assert_eq!(changed(false), None);
    fs::rename(site.join("a-1.dist-info"), site.join("a-2.dist-info")).unwrap();
    assert_eq!(changed(true), Some(environment.clone()));
    // What an image knows is not read, and nothing is asked.
    assert_eq!(changed(true), None);
    for rank in 0..3 {
        clean(Some(&case.node_dir(rank)), false).unwrap();
    }
    // One that is gone has not changed.
    fs::remove_dir_all(&environment).unwrap();
    assert_eq!(changed(false), None);
    case.assert_nothing_left();
}

fn refused(case: &Case) -> String {
    let messages = case.run(|rank, loaded| {
        let error = loaded.unwrap_err();
        assert!(!error.must_abort());
        (error.speaks(), rank, error.to_string())
    });
    let speakers: Vec<_> = messages.iter().filter(|(speaks, ..)| *speaks).collect();
    assert_eq!(speakers.len(), 1, "one rank prints");
    assert!(
        messages.iter().all(|(.., text)| *text == messages[0].2),
        "{messages:?}"
    );
    case.assert_nothing_left();
    messages[0].2.clone()
}

#[test]
fn a_damaged_bundle_is_the_same_error_on_every_rank() {
    let case = Case::new(&[0, 0, 1, 1]);
    let whole = fs::read(&case.settings.bundle).unwrap();
    let damage = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&case.settings.bundle, bytes).unwrap();
    };
    let (_, opened) = Plan::open(&case.settings.bundle, None, &[]).unwrap();
    let entry = opened.head.unwrap().index.entry(5).unwrap();
    // In the index; in a header between entries; in a hot entry; in the directory.
    damage(2000);
    assert!(refused(&case).contains("index"));
    damage(entry.offset as usize - 3);
    assert!(refused(&case).starts_with("bundle is corrupt: header bytes differ"));
    damage(entry.offset as usize + 10);
    assert!(refused(&case).contains("entry is corrupt: SHA-256"));
    damage(whole.len() - 100);
    assert!(refused(&case).starts_with("bundle is corrupt: header bytes differ"));
    fs::write(&case.settings.bundle, &whole[..whole.len() - 1]).unwrap();
    assert!(refused(&case).starts_with("bundle is truncated"));
    fs::remove_file(&case.settings.bundle).unwrap();
    assert!(refused(&case).contains("No such file"));
}

/// Nothing here holds an image: the usual candidates are passed over because they are not folders.
fn without_a_folder(rank: u32, of: u32, settings: &mut Settings) {
    if rank == of {
        settings.only_node_dir = true;
        settings.node_dir = Some(PathBuf::from("/proc/self/exe"));
    }
}

#[test]
fn a_node_without_a_folder_falls_back_and_the_others_go_on() {
    let case = Case::new(&[0, 0, 1, 1]);
    fs::create_dir(case.folder.path().join("env")).unwrap();
    let change = |rank, settings: &mut Settings| {
        without_a_folder(rank, 2, settings);
        settings.strict = false;
    };
    let fell = case.run_with(change, |_, loaded| {
        let loaded = loaded.unwrap();
        loaded.job.fell_through(Path::new("/env/x"));
        loaded.job.leave();
        assert_eq!(loaded.image.is_none(), loaded.fell_back.is_some());
        loaded.fell_back
    });
    assert!(fell[0].is_none() && fell[1].is_none());
    for text in &fell[2..] {
        assert!(text.as_ref().unwrap().contains("not a folder"), "{text:?}");
    }
    let receipt = Receipt::read(case.settings.receipt.as_deref().unwrap()).unwrap();
    assert!(receipt.nodes[1].fell_back.is_some() && receipt.nodes[1].image.is_none());
    case.assert_nothing_left();
}

#[test]
fn a_node_without_a_folder_is_an_error_where_it_may_not_fall_back() {
    let case = Case::new(&[0, 1, 1]);
    let change = |rank, settings: &mut Settings| without_a_folder(rank, 1, settings);
    // No environment to fall back to; then `--strict`.
    for strict in [false, true] {
        let errors = case.run_with(
            |rank, settings| {
                change(rank, settings);
                settings.strict = strict;
            },
            |_, loaded| loaded.unwrap_err().to_string(),
        );
        assert!(errors.iter().all(|text| *text == errors[0]), "{errors:?}");
        assert!(errors[0].starts_with("[rank 1/3 on "), "{errors:?}");
        assert!(errors[0].contains("no folder on"), "{errors:?}");
        case.assert_nothing_left();
        fs::create_dir(case.folder.path().join("env")).unwrap_or_default();
    }
}

/// A small memory file system over `folder`; false where that isn't allowed.
fn mount(folder: &Path) -> bool {
    let mut command = std::process::Command::new("mount");
    let command = command.args(["-t", "tmpfs", "-o", "size=16m,mode=700", "none"]);
    let mounted = command.arg(folder).output();
    let mounted = mounted.is_ok_and(|output| output.status.success());
    if !mounted {
        eprintln!("skipped: mounting a small tmpfs needs root");
    }
    mounted
}

#[test]
fn a_node_that_runs_full_while_loading_falls_back() {
    let case = Case::new(&[0, 1, 1]);
    let node = case.node_dir(1);
    if !mount(&node) {
        return;
    }
    fs::create_dir(case.folder.path().join("env")).unwrap();
    for strict in [false, true] {
        let outcomes = Threads::run(&case.nodes, |mut end| {
            let rank = end.rank(Group::WORLD);
            let node = case.node_dir(1);
            end.hook(move || {
                // Its image is made, nothing has been written into it: somebody takes the room.
                let images = fs::read_dir(&node).unwrap().count();
                if rank == 1 && images > 0 && !node.join("filler").exists() {
                    fs::write(node.join("filler"), vec![0; 32 << 20]).unwrap_err();
                }
            });
            let settings = Settings {
                node_dir: Some(case.node_dir(rank)),
                strict,
                ..case.settings.clone()
            };
            let loaded = load(&settings, &mut end, &mut || Ok(()));
            loaded.map(|loaded| (loaded.image.is_some(), loaded.fell_back))
        });
        fs::remove_file(node.join("filler")).unwrap();
        for (rank, outcome) in outcomes.iter().enumerate() {
            match outcome {
                Ok((image, fell_back)) if !strict => {
                    assert_eq!((*image, fell_back.is_none()), (rank == 0, rank == 0));
                }
                Err(error) if strict => {
                    let text = error.to_string();
                    assert!(text.contains("No space left on device"), "{text}");
                }
                other => panic!("{other:?}"),
            }
        }
        case.assert_nothing_left();
    }
    let unmounted = std::process::Command::new("umount")
        .arg("-l")
        .arg(&node)
        .status();
    assert!(unmounted.unwrap().success());
}

#[test]
fn two_leaders_on_one_node_share_its_image() {
    // MPI says two nodes, the folder is one: as under `MPIR_CVAR_NOLOCAL`.
    let mut case = Case::new(&[0, 1, 0, 1]);
    let dir = case.node_dir(0);
    case.nodes = vec![0, 0, 0, 0];
    let dirs = Threads::run(&[0, 1, 0, 1], |mut end| {
        let settings = Settings {
            node_dir: Some(dir.clone()),
            strict: true,
            ..case.settings.clone()
        };
        let loaded = load(&settings, &mut end, &mut || Ok(())).unwrap();
        let image = loaded.image.unwrap();
        image.place_all().unwrap();
        image.dir().to_owned()
    });
    assert!(dirs.iter().all(|dir| *dir == dirs[0]));
    case.assert_nothing_left();
}

#[test]
fn a_signal_on_one_rank_ends_the_load_of_all() {
    let case = Case::new(&[0, 0]);
    let fifo = case.folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let errors = Threads::run(&case.nodes, |mut end| {
        let settings = Settings {
            bundle: fifo.clone(),
            ..case.settings.clone()
        };
        let root = end.rank(Group::WORLD) == 0;
        let mut tick = || if root { Err(Interrupted) } else { Ok(()) };
        load(&settings, &mut end, &mut tick).unwrap_err()
    });
    assert!(errors.iter().all(Error::interrupted));
}
