//! What a launcher must hear of a rank that MPI no longer speaks for.
//!
//! Open MPI's launchers go by the status of each process, and nothing is to do. Hydra (MPICH, Intel
//! MPI, MVAPICH) has given each process a socket, and goes by what was said there:
//!
//! - A rank that fails after MPI was finalised has no MPI_Abort any more, and Hydra would wait for
//!   the others, however long that takes. As long as MPI has not taken leave of it, it listens, and
//!   obeys what MPI_Abort would send.
//! - MPICH takes leave in MPI_Finalize; since 4.2 in a handler of C's `exit`. Where MPI is finalised
//!   before the program, the word is held back ([`between`]), and said when the process ends.
//!   A rank that leaves by `_exit` has to say it in any case, or Hydra kills the others.
//! - A rank that becomes another program by `exec` can't say whether that program will use MPI,
//!   and nor can the first of several Pythons that a wrapper runs one after the other. A guard
//!   process stays behind, which takes leave when the last program has ended, if that has not.

#![expect(
    unsafe_code,
    reason = "descriptors by number, and a process that must not allocate"
)]

mod between;

use std::os::fd::{AsFd, AsRawFd, RawFd};

use pybundle_load::transport::{
    Flavour,
    hydra::{self, Hydra},
};

/// A process's connection to Hydra.
#[derive(Debug)]
pub(crate) struct LauncherSocket {
    hydra: Hydra,
    /// MPI was kept from taking leave.
    held_back: bool,
}

impl LauncherSocket {
    /// Takes a copy of the connection, before MPI closes its own. The copy is closed by `exec`.
    pub(crate) fn take(flavour: Option<Flavour>) -> Option<Self> {
        if flavour != Some(Flavour::Mpich) {
            return None;
        }
        Some(Self {
            hydra: Hydra::find()?,
            held_back: false,
        })
    }

    /// Finalises MPI by `finalise`, but stays in the job.
    pub(crate) fn stay<T>(&mut self, finalise: impl FnOnce() -> T) -> T {
        let (result, said) = between::stay(self.hydra.number(), self.hydra.as_fd(), finalise);
        self.held_back = said;
        result
    }

    /// The end of a process whose exit handlers run: says what MPI was kept from saying.
    pub(crate) fn end(&self) {
        if self.held_back {
            self.take_leave();
        }
    }

    /// Asks the launcher to end every process of the job with `status`.
    pub(crate) fn abort(&self, status: i32) {
        self.hydra.abort(status);
    }

    /// Takes leave, so that the end of this process is nobody else's.
    pub(crate) fn take_leave(&self) {
        self.hydra.take_leave();
    }

    /// As [`take_leave`](Self::take_leave), when process `pid` has ended, whatever program it is by
    /// then: a guard process stays behind for that. False where that can't be.
    pub(crate) fn leave_guard(&self, pid: u32) -> bool {
        // SAFETY: has no preconditions.
        let process = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        // There is no such call before Linux 5.3.
        let Ok(process @ 0..) = RawFd::try_from(process) else {
            return false;
        };
        // SAFETY: the child and its child call nothing but system calls until they end.
        match unsafe { libc::fork() } {
            0 => {
                // The guard is nobody's child: the next program may wait for its own.
                // SAFETY: as above.
                if unsafe { libc::fork() } == 0 {
                    guard(process, self.hydra.as_fd().as_raw_fd());
                }
                // SAFETY: ends the child in between.
                unsafe { libc::_exit(0) }
            }
            child => {
                let mut status = 0;
                // SAFETY: `status` is writable; if there is no child there is nothing to wait for.
                unsafe {
                    libc::waitpid(child, &raw mut status, 0);
                    libc::close(process);
                }
                child > 0
            }
        }
    }
}

/// Waits for the end of `process`, then takes leave. Runs in a copy of a process that may have had
/// threads: system calls alone.
fn guard(process: RawFd, socket: RawFd) -> ! {
    // SAFETY: no memory but this function's; the descriptors that it closes are copies, of which
    // some are pipes that others read until they are closed.
    unsafe {
        libc::setsid();
        let process = libc::fcntl(process, libc::F_DUPFD, 100);
        let socket = libc::fcntl(socket, libc::F_DUPFD, process + 1);
        for (first, last) in [
            (0, process - 1),
            (process + 1, socket - 1),
            (socket + 1, RawFd::MAX),
        ] {
            if first <= last {
                libc::syscall(libc::SYS_close_range, first, last, 0);
            }
        }
        let mut ended = libc::pollfd {
            fd: process,
            events: libc::POLLIN,
            revents: 0,
        };
        while libc::poll(&raw mut ended, 1, -1) < 0 {}
        hydra::take_leave(socket);
        libc::_exit(0)
    }
}
