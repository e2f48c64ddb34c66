//! Files of the packages that a program imports, put into place while it runs.
//!
//! A package's files are placed before its first module runs, and the program waits for that. The
//! ranks of a job share the work; a process that is alone has cores to spare. So a thread places
//! what the program's import statements name, one package after the other, and the program finds it
//! done or helps to finish it. The thread never touches Python, takes no signals, and is gone before
//! the process forks or leaves: nothing tells a program that it was there.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use nix::sys::signal::{SigSet, SigmaskHow};
use pybundle_bundle::record::some;
use pybundle_load::Image;

use crate::program::words;

/// More than this of one package is placed only when it is really imported.
const MOST: u64 = 256 << 20;

static AHEAD: Mutex<Option<Ahead>> = Mutex::new(None);

struct Ahead {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Begins to place what a program with this text imports.
pub(crate) fn start(image: &Arc<Image>, text: &[u8]) {
    let groups: Vec<u32> = named(text)
        .filter_map(|name| group_of(image, name))
        .filter(|&group| !image.is_placed(group))
        .collect();
    if groups.is_empty() || !thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
        return;
    }
    // A signal that this thread took would not wake the one that Python's handlers run in.
    let Ok(mask) = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK) else {
        return;
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (image, stopped) = (Arc::clone(image), Arc::clone(&stop));
    let thread = thread::Builder::new().name("pybundle-ahead".to_owned());
    let spawned = thread.spawn(move || {
        for group in groups {
            // What fails here fails again when the program comes to it, which then says so.
            let _ = image.place_ahead(group, MOST, &stopped);
        }
    });
    let _ = mask.thread_set_mask();
    if let Ok(thread) = spawned {
        *AHEAD.lock().unwrap_or_else(PoisonError::into_inner) = Some(Ahead { stop, thread });
    }
}

/// Ends the thread, if there is one; at most for as long as one file takes.
pub(crate) fn stop() {
    // A forked child may have inherited a lock that nobody will free.
    let ahead = AHEAD.try_lock().ok().and_then(|mut ahead| ahead.take());
    if let Some(Ahead { stop, thread }) = ahead {
        stop.store(true, Relaxed);
        let _ = thread.join();
    }
}

/// The words of the lines that are import statements, in their order.
fn named(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = text.split(|&byte| matches!(byte, b'\n' | b'\r' | b';'));
    let imports = lines.filter(|line| {
        let line = line.trim_ascii_start();
        line.starts_with(b"import ") || line.starts_with(b"from ")
    });
    imports.flat_map(words)
}

/// What is placed with the top-level module of that name.
fn group_of(image: &Image, name: &[u8]) -> Option<u32> {
    let (index, folders) = (image.index(), &image.manifest().sys_path);
    let mut folders = folders
        .iter()
        .filter_map(|path| index.find_folder(path.as_bytes()));
    let (_, module) = folders.find_map(|folder| index.find_module(folder, name))?;
    some(module.group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_import_statements_name_packages() {
        let text =
            b"\"\"\"numpy\"\"\"\nimport os, a.b as c; from d import e\n  import f\nimportant = g\n";
        let found: Vec<_> = named(text)
            .map(|name| str::from_utf8(name).unwrap())
            .collect();
        let expected = "import os a b as c from d import e import f";
        assert_eq!(found.join(" "), expected);
    }
}
