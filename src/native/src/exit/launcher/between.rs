//! Stands between MPI and Hydra while MPI is finalised, so that the process stays in the job.
//!
//! Older MPICHs take leave in MPI_Finalize, as do those that descend from them. Hydra then takes
//! no more orders from the process, and what becomes of it is nobody's business: a rank that
//! fails later could not end its job. So this one word is answered here and not passed on; the rest of
//! the conversation is. Who leaves the job says the word then: see [`LauncherSocket`].
//!
//! [`LauncherSocket`]: super::LauncherSocket

#![expect(unsafe_code, reason = "puts another socket under MPI's descriptor")]

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
        unix::net::UnixStream,
    },
    thread,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

/// How a process takes leave, in the first version of Hydra's protocol.
const LEAVE: &[u8] = b"cmd=finalize";

/// What Hydra would answer.
const ANSWER: &[u8] = b"cmd=finalize_ack rc=0\n";

/// Runs `finalise` with this process between MPI, which speaks on descriptor `number`, and `hydra`.
/// True if MPI has said the word, which is then ours to say.
pub(super) fn stay<T>(
    number: RawFd,
    hydra: BorrowedFd<'_>,
    finalise: impl FnOnce() -> T,
) -> (T, bool) {
    let ready = || -> io::Result<_> {
        let (ours, theirs) = UnixStream::pair()?;
        let (stop, stopped) = UnixStream::pair()?;
        let hydra = UnixStream::from(hydra.try_clone_to_owned()?);
        Ok((ours, theirs, stop, stopped, hydra))
    };
    let Ok((ours, theirs, stop, stopped, to_hydra)) = ready() else {
        return (finalise(), false);
    };
    let mut said = false;
    let result = thread::scope(|scope| {
        let passer = thread::Builder::new().name("pybundle-finalise".to_owned());
        let passer = passer.spawn_scoped(scope, || pass(ours, to_hydra, &stopped, &mut said));
        if passer.is_ok() {
            // If this fails, MPI speaks to Hydra as ever.
            let _ = put(theirs.as_raw_fd(), number);
        }
        let result = finalise();
        // The passer ends with it.
        drop(stop);
        result
    });
    // MPI may have closed its descriptor. Programs that this process becomes find Hydra there.
    if is_same(number, theirs.as_fd()) || is_closed(number) {
        let _ = put(hydra.as_raw_fd(), number);
    }
    (result, said)
}

/// Passes on what MPI and Hydra say, until `stopped` is closed at its other end.
fn pass(
    mut mpi: UnixStream,
    mut hydra: UnixStream,
    stopped: &UnixStream,
    said: &mut bool,
) -> io::Result<()> {
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let mut wanted = [
            PollFd::new(mpi.as_fd(), PollFlags::POLLIN),
            PollFd::new(hydra.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut wanted, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        let [from_mpi, from_hydra, stop] = wanted.map(|one| one.any().unwrap_or(true));
        if from_mpi {
            let read = mpi.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            line.extend_from_slice(&buffer[..read]);
            while let Some(end) = line.iter().position(|&byte| byte == b'\n') {
                let word: Vec<u8> = line.drain(..=end).collect();
                if word.starts_with(LEAVE) {
                    *said = true;
                    mpi.write_all(ANSWER)?;
                } else {
                    hydra.write_all(&word)?;
                }
            }
        } else if from_hydra {
            let read = hydra.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            mpi.write_all(&buffer[..read])?;
        } else if stop {
            return Ok(());
        }
    }
}

/// Puts a copy of `from` under the number `to`, to be inherited by other programs.
fn put(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: the number is MPI's own, or free; the file that was there stays open elsewhere.
    let put = unsafe { libc::dup2(from, to) };
    if put < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn is_closed(number: RawFd) -> bool {
    // SAFETY: asks for flags.
    unsafe { libc::fcntl(number, libc::F_GETFD) < 0 }
}

/// Whether a number stands for the same socket as a descriptor.
fn is_same(number: RawFd, socket: BorrowedFd<'_>) -> bool {
    let name = |number: RawFd| std::fs::read_link(format!("/proc/self/fd/{number}")).ok();
    name(number).is_some_and(|found| Some(found) == name(socket.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        os::fd::OwnedFd,
    };

    use super::*;

    #[test]
    fn one_word_is_answered_and_the_rest_passed_on() {
        let (hydra, held) = UnixStream::pair().unwrap();
        let mpis = OwnedFd::from(held.try_clone().unwrap());
        let number = mpis.as_raw_fd();
        let mut heard = BufReader::new(hydra.try_clone().unwrap());
        let (answers, said) = stay(number, held.as_fd(), || {
            // SAFETY: open for the whole of this test.
            let socket = unsafe { BorrowedFd::borrow_raw(number) };
            let mut mpi = UnixStream::from(socket.try_clone_to_owned().unwrap());
            mpi.write_all(b"cmd=barrier_in\ncmd=fin").unwrap();
            let mut word = String::new();
            heard.read_line(&mut word).unwrap();
            assert_eq!(word, "cmd=barrier_in\n");
            (&hydra).write_all(b"cmd=barrier_out\n").unwrap();
            let mut answers = BufReader::new(mpi.try_clone().unwrap()).lines();
            let first = answers.next().unwrap().unwrap();
            mpi.write_all(b"alize\n").unwrap();
            [first, answers.next().unwrap().unwrap()]
        });
        assert!(said);
        assert_eq!(answers, ["cmd=barrier_out", "cmd=finalize_ack rc=0"]);
        // From now on the number is Hydra's own again.
        let mut mpi = UnixStream::from(mpis);
        mpi.write_all(b"cmd=abort\n").unwrap();
        let mut word = String::new();
        heard.read_line(&mut word).unwrap();
        assert_eq!(word, "cmd=abort\n");
    }
}
