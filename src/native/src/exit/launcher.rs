//! Ends a job after MPI was finalised.
//!
//! A rank that fails then has no MPI_Abort any more. Open MPI's launchers end a job when a process
//! of it ends with another status than 0. Hydra (MPICH, Intel MPI, MVAPICH) does so only as long
//! as the process has not finalised; after that it waits for the others, however long that takes.
//! But it still listens on the socket that it gave to the process, and obeys what MPI_Abort itself
//! would send there.

use std::{
    env,
    io::Write,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
        unix::fs::FileTypeExt,
    },
};

use pybundle_load::transport::Flavour;

/// A process's connection to Hydra, or to what speaks its protocol.
#[derive(Debug)]
pub(crate) struct LauncherSocket(OwnedFd);

impl LauncherSocket {
    /// Takes a copy of the connection, before MPI closes its own.
    pub(crate) fn take(flavour: Option<Flavour>) -> Option<Self> {
        if flavour != Some(Flavour::Mpich) {
            return None;
        }
        let number: RawFd = env::var("PMI_FD").ok()?.parse().ok()?;
        let kind = std::fs::metadata(format!("/proc/self/fd/{number}")).ok()?;
        if !kind.file_type().is_socket() {
            return None;
        }
        Self::copy(number)
    }

    #[expect(unsafe_code, reason = "borrows a descriptor known by its number")]
    fn copy(number: RawFd) -> Option<Self> {
        // SAFETY: the caller has seen that it is open; it is MPI's until MPI is finalised.
        let socket = unsafe { BorrowedFd::borrow_raw(number) };
        // The copy is closed by exec.
        socket.as_fd().try_clone_to_owned().ok().map(Self)
    }

    /// Asks the launcher to end every process of the job with `status`.
    pub(crate) fn abort(&self, status: i32) {
        let Ok(copy) = self.0.try_clone() else { return };
        let message = format!("cmd=abort exitcode={status}\n");
        // A launcher that is gone needs no telling.
        let _ = std::fs::File::from(copy).write_all(message.as_bytes());
    }
}
