//! What is said to Hydra (MPICH, Intel MPI, MVAPICH) without an MPI.
//!
//! Hydra gives each process a socket, on which lines `cmd=… key=value …` are exchanged: version 1 of
//! MPICH's process management interface.

#![expect(unsafe_code, reason = "a descriptor by its number")]

use std::{
    env,
    io::{Read, Write},
    os::{
        fd::{BorrowedFd, OwnedFd, RawFd},
        unix::{fs::FileTypeExt, net::UnixStream},
    },
    time::Duration,
};

use super::mapped;

/// Set by Hydra, and by no other that speaks to processes on `PMI_FD`.
const HYDRA: &str = "MPI_LOCALNRANKS";

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Longest line that is read.
const LINE: usize = 1024;

/// A copy of this process's socket, closed by `exec`, and MPI's own descriptor for it.
pub fn socket() -> Option<(OwnedFd, RawFd)> {
    env::var_os(HYDRA)?;
    let number: RawFd = env::var("PMI_FD").ok()?.parse().ok()?;
    let found = std::fs::metadata(format!("/proc/self/fd/{number}")).ok()?;
    if !found.file_type().is_socket() {
        return None;
    }
    // SAFETY: it is open, as was just seen, and MPI's until MPI is finalised.
    let socket = unsafe { BorrowedFd::borrow_raw(number) };
    Some((socket.try_clone_to_owned().ok()?, number))
}

/// The conversation of a process that ends without having started MPI.
pub(crate) struct Hydra(UnixStream);

impl Hydra {
    /// Begins it. `None` if no Hydra has started this process, if it gives no answer, or if this
    /// process has an MPI: that may be speaking already.
    pub(crate) fn greet() -> Option<Self> {
        if !mapped::libraries().ok()?.is_empty() {
            return None;
        }
        let mut hydra = Self(UnixStream::from(socket()?.0));
        hydra.0.set_read_timeout(Some(ANSWER)).ok()?;
        hydra.ask("init pmi_version=1 pmi_subversion=1")?;
        Some(hydra)
    }

    /// Which of the programs of `mpiexec … : …` this process runs, from 0.
    pub(crate) fn program(&mut self) -> Option<u32> {
        let answer = self.ask("get_appnum")?;
        let mut words = answer.split_ascii_whitespace();
        words
            .find_map(|word| word.strip_prefix("appnum="))?
            .parse()
            .ok()
    }

    /// Ends the whole job.
    pub(crate) fn abort(mut self, status: i32) {
        // A launcher that is gone needs no telling.
        let _ = self
            .0
            .write_all(format!("cmd=abort exitcode={status}\n").as_bytes());
    }

    /// The end of this process is nobody else's.
    pub(crate) fn take_leave(mut self) {
        self.ask("finalize");
    }

    fn ask(&mut self, command: &str) -> Option<String> {
        self.0
            .write_all(format!("cmd={command}\n").as_bytes())
            .ok()?;
        let (mut line, mut byte) = (Vec::new(), [0]);
        while line.last() != Some(&b'\n') && line.len() < LINE {
            self.0.read_exact(&mut byte).ok()?;
            line.push(byte[0]);
        }
        String::from_utf8(line).ok()
    }
}
