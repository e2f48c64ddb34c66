//! Removes the node image of a job that is aborted.
//!
//! The launcher kills the other ranks, so the last one out never comes to remove it, and what
//! lies in shared memory would stay there until the user's next run. The rank that aborts leaves a
//! process behind for that, for a few seconds. (A job that is killed as a whole leaves its image;
//! the next run and `pybundle clean` sweep it.)

#![expect(unsafe_code, reason = "forks a process that outlives the job")]

use std::{
    fs::File,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::fcntl::{Flock, FlockArg};
use pybundle_load::Image;

/// Longest time that the ranks of a job take to die.
const LONGEST: Duration = Duration::from_secs(10);

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Leaves a janitor behind for the image in `dir`, which this process has left already.
pub(super) fn leave_behind(dir: &Path) {
    if !dir.exists() {
        return;
    }
    // SAFETY: glibc keeps its allocator usable in a forked child; nothing else that other threads
    // may have been in the middle of is touched: no interpreter, no MPI, no standard streams.
    unsafe {
        match libc::fork() {
            0 => {
                libc::setsid();
                // Nobody's child: the launcher waits for its own alone.
                if libc::fork() == 0 {
                    // Pipes that the launcher reads until they are closed, locks of the image.
                    libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
                    clean(dir);
                }
                libc::_exit(0)
            }
            child => {
                let mut status = 0;
                libc::waitpid(child, &raw mut status, 0);
            }
        }
    }
}

/// Attaches and leaves until this was the last one to do so.
fn clean(dir: &Path) {
    // One janitor is enough; it may be another rank's.
    let Ok(file) = File::open(dir) else { return };
    let Ok(_only) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
        return;
    };
    let start = Instant::now();
    while start.elapsed() < LONGEST {
        thread::sleep(PAUSE);
        match Image::attach(dir) {
            Ok(image) => image.leave(),
            Err(_) => return,
        }
        if !dir.exists() {
            return;
        }
    }
}
