//! What is said to Hydra (MPICH, Intel MPI, MVAPICH) without an MPI.
//!
//! Hydra gives each process a socket, on which lines `cmd=… key=value …` are exchanged: version 1 of
//! MPICH's process management interface.

#![expect(unsafe_code, reason = "descriptors by number")]

use std::{
    env,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::fs::FileTypeExt,
    },
};

use super::mapped;

/// Set by Hydra, and by no other that speaks to processes on `PMI_FD`.
const HYDRA: &str = "MPI_LOCALNRANKS";

/// Longest wait for an answer, in milliseconds.
const ANSWER: i32 = 2000;

/// Longest line that is read.
const LINE: usize = 1024;

/// A process's connection to Hydra: a copy, which `exec` closes and MPI doesn't.
#[derive(Debug)]
pub struct Hydra {
    socket: OwnedFd,
    number: RawFd,
}

impl Hydra {
    /// `None` if no Hydra has started this process.
    pub fn find() -> Option<Self> {
        env::var_os(HYDRA)?;
        let number: RawFd = env::var("PMI_FD").ok()?.parse().ok()?;
        let found = std::fs::metadata(format!("/proc/self/fd/{number}")).ok()?;
        if !found.file_type().is_socket() {
            return None;
        }
        // SAFETY: it is open, as was just seen, and MPI's until MPI is finalised.
        let socket = unsafe { BorrowedFd::borrow_raw(number) };
        let socket = socket.try_clone_to_owned().ok()?;
        Some(Self { socket, number })
    }

    /// MPI's own descriptor.
    pub fn number(&self) -> RawFd {
        self.number
    }

    /// Which of the programs of `mpiexec … : …` this process runs, from 0. To be asked once, by a
    /// process that ends without having started MPI: `None` if it has one, which may be speaking,
    /// or if there is no answer.
    pub(crate) fn program(&self) -> Option<u32> {
        if !mapped::libraries().ok()?.is_empty() {
            return None;
        }
        self.ask("init pmi_version=1 pmi_subversion=1")?;
        let answer = self.ask("get_appnum").unwrap_or_default();
        let mut words = answer.split_ascii_whitespace();
        let number = words.find_map(|word| word.strip_prefix("appnum="));
        // One that doesn't say knows of one program.
        Some(number.and_then(|number| number.parse().ok()).unwrap_or(0))
    }

    /// Asks it to end every process of the job with `status`.
    pub fn abort(&self, status: i32) {
        // A launcher that is gone needs no telling.
        say(
            self.socket.as_raw_fd(),
            format!("cmd=abort exitcode={status}\n").as_bytes(),
        );
    }

    /// Takes leave, so that the end of this process is nobody else's.
    pub fn take_leave(&self) {
        take_leave(self.socket.as_raw_fd());
    }

    fn ask(&self, command: &str) -> Option<String> {
        let socket = self.socket.as_raw_fd();
        if !say(socket, format!("cmd={command}\n").as_bytes()) {
            return None;
        }
        let (mut line, mut part) = (Vec::new(), [0; 256]);
        while line.last() != Some(&b'\n') && line.len() < LINE {
            match hear(socket, &mut part) {
                0 => return None,
                len => line.extend_from_slice(&part[..len]),
            }
        }
        String::from_utf8(line).ok()
    }
}

impl AsFd for Hydra {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// As [`Hydra::take_leave`], on a socket by its number. System calls alone: it may run in a copy of
/// a process that had threads.
pub fn take_leave(socket: RawFd) {
    // A launcher that has heard it before has closed its end.
    if say(socket, b"cmd=finalize\n") {
        // It has noted it when it answers.
        hear(socket, &mut [0; 256]);
    }
}

/// Waits for bytes, and reads what has come; 0 if nothing has, or nobody is there.
fn hear(socket: RawFd, bytes: &mut [u8]) -> usize {
    let mut answered = libc::pollfd {
        fd: socket,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: both are writable for the calls.
    let len = unsafe {
        match libc::poll(&raw mut answered, 1, ANSWER) {
            1.. => libc::read(socket, bytes.as_mut_ptr().cast(), bytes.len()),
            _ => 0,
        }
    };
    usize::try_from(len).unwrap_or(0)
}

/// Sends a message; false if there is nobody to hear it.
fn say(socket: RawFd, message: &[u8]) -> bool {
    // SAFETY: the memory is readable for the call. No signal comes if the other end is closed.
    let sent = unsafe {
        libc::send(
            socket,
            message.as_ptr().cast(),
            message.len(),
            libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent) == Ok(message.len())
}
