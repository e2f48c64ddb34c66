//! Tries loading for real: alone, in a job of processes, under `mpiexec`.
//!
//! ```text
//! load_check make FILE small|large|huge        writes a sample bundle
//! load_check [--plugin PLUGIN] COMMAND …
//!     load BUNDLE                         loads, places everything with all ranks at once, compares
//!     time BUNDLE                         loads and leaves; phases on stderr
//!     hold BUNDLE                         loads, prints the image's folder, waits for its input to end
//!     fork BUNDLE                         children that forget, attach and outlive their parent
//! load_check attach DIR                   attaches, places everything, compares
//! load_check claim DIR                    claims every entry of an image, says so, never ends
//! load_check clean [--dry-run]            removes images that nobody holds
//! load_check receipt FILE [--html]        renders a receipt
//! ```
//!
//! Options are taken from the environment: `PYBUNDLE_NODE_DIR`, `PYBUNDLE_RECEIPT`, …; beside them
//! `CHECK_KEEP=1`, `CHECK_STRICT=1`, `CHECK_ALL=1`.

#![expect(unsafe_code, reason = "forks")]
#![expect(clippy::print_stdout, reason = "a program")]
#![expect(clippy::expect_used, reason = "the sample is also used in tests")]

#[path = "../src/sample.rs"]
mod sample;

use std::{
    env,
    error::Error,
    fs::{self, OpenOptions},
    io::Read,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::wait::waitpid,
    unistd::ForkResult,
};
use pybundle_bundle::{Head, limits::NONE, reader, record::Kind};
use pybundle_load::{
    Image, Job, Loaded, Receipt, Settings,
    image::clean,
    load,
    transport::{Group, Launcher, Local, Transport, Wait, World, plugin::Plugin},
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    let mut plugin = None;
    if arguments.first().is_some_and(|first| first == "--plugin") {
        plugin = arguments.drain(..2).nth(1).map(PathBuf::from);
    }
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["make", file, size] => make(Path::new(file), size),
        ["attach", dir] => attach(Path::new(dir)),
        ["claim", dir] => claim(Path::new(dir)),
        ["clean", rest @ ..] => sweep(rest == ["--dry-run"]),
        ["receipt", file, rest @ ..] => render(Path::new(file), rest == ["--html"]),
        [command @ ("load" | "time" | "hold" | "fork"), bundle] => {
            job(plugin.as_deref(), command, bundle)
        }
        _ => {
            eprintln!("usage: see the head of load_check.rs");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.to_string().is_empty() {
                eprintln!("error: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn make(file: &Path, size: &str) -> Outcome {
    let large = sample::Shape {
        hot_blocks: 16,
        cold_blocks: 4,
        code_len: 500_000,
        hot_files: 100,
        groups: 8,
        group_files: 200,
        file_len: 60_000,
    };
    let shape = match size {
        "large" => large,
        // 3.3 GB that don't compress: counts and offsets beyond 32 bits.
        "huge" => sample::Shape {
            groups: 3,
            group_files: 50,
            file_len: 16 << 20,
            hot_files: 3,
            ..large
        },
        _ => sample::SMALL,
    };
    sample::write(file, Path::new("/nowhere/env"), shape);
    println!("{} bytes", fs::metadata(file)?.len());
    Ok(())
}

fn settings(bundle: &str) -> Outcome<Settings> {
    let switch = |name| env::var_os(name).is_some();
    Ok(Settings {
        bundle: bundle.into(),
        keep: switch("CHECK_KEEP"),
        strict: switch("CHECK_STRICT"),
        all_files: switch("CHECK_ALL"),
        ..Settings::from_environment()?
    })
}

fn transport(plugin: Option<&Path>, settings: &Settings) -> Outcome<Box<dyn Transport>> {
    match (plugin, Launcher::detect()) {
        (Some(plugin), Some(_)) => {
            let wait = Wait::asleep("MPI to start", settings.timeout);
            Ok(Box::new(World::start(Plugin::load(plugin)?, &wait)?))
        }
        _ => Ok(Box::new(Local::new())),
    }
}

fn job(plugin: Option<&Path>, command: &str, bundle: &str) -> Outcome {
    let settings = settings(bundle)?;
    let mut transport = transport(plugin, &settings)?;
    let began = Instant::now();
    let loaded = match load(&settings, &mut *transport, &mut || Ok(())) {
        Ok(loaded) => loaded,
        Err(error) => {
            if error.speaks() {
                eprintln!("error: {error}");
            }
            if error.must_abort() {
                transport.abort(1);
            }
            transport.finalise()?;
            return Err("".into());
        }
    };
    let seconds = began.elapsed().as_secs_f64();
    let rank = transport.rank(Group::WORLD);
    let Some(image) = loaded.image.clone() else {
        println!(
            "rank {rank}: fell back: {}",
            loaded.fell_back.unwrap_or_default()
        );
        loaded.job.leave();
        transport.finalise()?;
        return Ok(());
    };
    match command {
        "hold" => {
            println!("{}", image.dir().display());
            std::io::stdin().read_to_end(&mut Vec::new())?;
        }
        "fork" => fork(&image, &loaded)?,
        "load" => {
            for group in 0..image.index().groups() {
                image.place(group)?;
            }
            image.place_all()?;
            compare(&image)?;
            barrier(&mut *transport)?;
            say(rank, &loaded, seconds);
        }
        _ => say(rank, &loaded, seconds),
    }
    loaded.job.leave();
    drop(loaded);
    let dir = image.dir().to_owned();
    image.leave();
    barrier(&mut *transport)?;
    if command == "load" && !settings.keep && dir.exists() {
        return Err(format!("the image is still there: `{}`", dir.display()).into());
    }
    transport.finalise()?;
    Ok(())
}

fn barrier(transport: &mut dyn Transport) -> Outcome {
    let mut wait = Wait::asleep("all ranks", None);
    Ok(transport.barrier(Group::WORLD, &mut wait)?)
}

fn say(rank: u32, loaded: &Loaded, seconds: f64) {
    let count = loaded.job.count();
    let [load, entries, demand] = [&count.load_bytes, &count.load_entries, &count.demand_bytes]
        .map(|count| count.load(Ordering::Relaxed));
    println!(
        "rank {rank}: {seconds:.3} s, decoded {load} bytes in {entries} entries, {demand} on demand"
    );
}

/// A child that forgets that it was forked harms nobody; one that remembers holds the image for
/// itself, when its parent is gone too.
fn fork(image: &Image, loaded: &Loaded) -> Outcome {
    // SAFETY: no other thread of this process runs.
    if let ForkResult::Parent { child } = unsafe { nix::unistd::fork() }? {
        waitpid(child, None)?;
    } else {
        image.leave();
        std::process::exit(0);
    }
    if !image.dir().exists() {
        return Err("a child removed its parent's image".into());
    }
    image.place(1)?;
    let child = Job::attach(image, &loaded.job.variable()).ok_or("no place in the job")?;
    child.fell_through("/a/childs/path");
    child.leave();
    if loaded.job.count().fall_through.load(Ordering::Relaxed) != 1 {
        return Err("a child counts elsewhere".into());
    }
    // SAFETY: as above.
    if let ForkResult::Parent { .. } = unsafe { nix::unistd::fork() }? {
        // Time for the child to take its share of the lock.
        std::thread::sleep(Duration::from_millis(100));
        return Ok(());
    }
    image.forked()?;
    std::thread::sleep(Duration::from_millis(300));
    image.place_all()?;
    compare(image)?;
    if !image.dir().exists() {
        return Err("the parent removed its child's image".into());
    }
    image.leave();
    println!(
        "{}",
        if image.dir().exists() {
            "left behind"
        } else {
            "removed by the child"
        }
    );
    std::process::exit(0);
}

fn attach(dir: &Path) -> Outcome {
    let image = Image::attach(dir)?;
    image.place_all()?;
    compare(&image)
}

/// Compares everything in the image with what the bundle holds.
fn compare(image: &Image) -> Outcome {
    let mut file = fs_err::File::open(image.bundle())?;
    let head = Head::read(&mut file)?;
    let index = &head.index;
    let mut decoder = reader::Decoder::new()?;
    let stored = fs::read(image.bundle())?;
    let mut code = Vec::new();
    for row in 1..index.entries() {
        let entry = index.entry(row).ok_or("entry")?;
        let packed = &stored[entry.offset as usize..(entry.offset + entry.stored) as usize];
        let mut content = vec![0; entry.size as usize];
        decoder.decode(index, &entry, packed, &mut content)?;
        let path = image
            .tree()
            .join(std::ffi::OsStr::from_bytes(index.text(entry.path)));
        let differs = || Err(format!("differs: `{}`", path.display()).into());
        match Kind::from_number(entry.kind) {
            Some(Kind::File) => {
                let found = fs::symlink_metadata(&path)?;
                let mode = entry.mode & 0o555 | 0o400;
                if !found.is_file() || found.mode() & 0o777 != mode || found.mtime() != 315_532_800
                {
                    return differs();
                }
                if fs::read(&path)? != content {
                    return differs();
                }
            }
            Some(Kind::Link) if fs::read_link(&path)?.as_os_str().as_bytes() != content => {
                return differs();
            }
            Some(Kind::Folder) if !path.is_dir() => return differs(),
            Some(Kind::Code) => code.push((row, content)),
            _ => {}
        }
    }
    compare_code(image, &code)
}

fn compare_code(image: &Image, blocks: &[(u32, Vec<u8>)]) -> Outcome {
    let index = image.index();
    let prefix = format!("{}/", image.tree().display());
    for number in 0..index.blocks() {
        let block = index.block(number).ok_or("block")?;
        let (_, content) = blocks
            .iter()
            .find(|(row, _)| *row == block.entry)
            .ok_or("block")?;
        for row in block.first_module..block.first_module + block.modules {
            let module = index.module(row).ok_or("module")?;
            let at = (module.code_at - block.at) as usize;
            let mut expected = content[at..at + module.code_len as usize].to_vec();
            if module.filename_at != NONE {
                let at = module.filename_at as usize + 1;
                let mut len = [0; 4];
                len.copy_from_slice(&expected[at..at + 4]);
                let len = u32::from_le_bytes(len) + prefix.len() as u32;
                expected[at..at + 4].copy_from_slice(&len.to_le_bytes());
                expected.splice(at + 4..at + 4, prefix.bytes());
            }
            if image.code(row)? != Some(&expected[..]) {
                return Err(format!("code of module {row} differs").into());
            }
        }
    }
    Ok(())
}

fn claim(dir: &Path) -> Outcome {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(dir.join("claims"))?;
    let range = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_SETLKW(&range))?;
    println!("claimed");
    loop {
        std::thread::park();
    }
}

fn sweep(dry_run: bool) -> Outcome {
    let settings = Settings::from_environment()?;
    for found in clean(settings.node_dir.as_deref(), dry_run)? {
        let state = if found.held { "held" } else { "free" };
        println!("{state} {} {}", found.bytes, found.dir.display());
    }
    Ok(())
}

fn render(file: &Path, html: bool) -> Outcome {
    let receipt = Receipt::read(file)?;
    println!("{}", if html { receipt.html() } else { receipt.text() });
    Ok(())
}
