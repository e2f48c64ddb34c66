//! What can go wrong between ranks, in words for the user.

use std::{io, path::PathBuf};

use super::{GiveUp, launcher::Flavour};

/// A transport's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a transport failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The deadline of a wait passed.
    #[error("no progress for {seconds:.0} s: waiting for {what}")]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// Time waited.
        seconds: f64,
    },
    /// The first collective call of the job did not complete.
    #[error(
        "rank {rank} waited {seconds:.0} s for all {size} ranks of this MPI world to join: some of \
         them don't run pybundle (another program in the same mpiexec?), or died; launch the \
         other program on its own, or set `PYBUNDLE_MPI=off`"
    )]
    NotJoined {
        /// This process's rank in MPI_COMM_WORLD.
        rank: u32,
        /// Ranks of MPI_COMM_WORLD.
        size: u32,
        /// Time waited.
        seconds: f64,
    },
    /// The wait's callback ended it.
    #[error("gave up waiting for {what}: {reason}")]
    GaveUp {
        /// What was waited for.
        what: &'static str,
        /// The callback's error.
        reason: GiveUp,
    },
    /// An MPI call failed.
    #[error("MPI failed: {text}")]
    Mpi {
        /// The call's name and the library's text.
        text: String,
    },
    /// A rank outside the group was named.
    #[error("rank {rank} is not in a group of {size}")]
    NoSuchRank {
        /// The rank named.
        rank: u32,
        /// Ranks of the group.
        size: u32,
    },
    /// A group that was never made, or was freed.
    #[error("group {group} does not exist")]
    NoSuchGroup {
        /// The group's number.
        group: u32,
    },
    /// More bytes, or a higher number, than a call can take.
    #[error("{what} is too large: expected at most {limit}, got {got}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The largest allowed.
        limit: u64,
        /// What was given.
        got: u64,
    },
    /// The launcher has started several processes, MPI sees one.
    #[error(
        "{library} sees a single rank, but the launcher has set `{variable}={value}`: the job was \
         started by another MPI's launcher; use the mpiexec of {library}, run `pybundle mpi add \
         MPICC` with the mpicc of the launcher's MPI, or set `PYBUNDLE_MPI=off`"
    )]
    Singletons {
        /// The library's version text.
        library: String,
        /// The launcher's variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// A job of an MPI for which no transport is installed.
    #[error(
        "no MPI transport for {flavour} is installed, and the job runs under it ({evidence}); {installed}: run \
         `pybundle mpi add MPICC` with its mpicc, or set `PYBUNDLE_MPI=off`"
    )]
    NoPlugin {
        /// The MPI needed: a flavour's name, or `MPI`.
        flavour: String,
        /// How we know.
        evidence: String,
        /// What is there instead.
        installed: String,
    },
    /// The dynamic linker refused the plug-in.
    #[error("cannot load the MPI transport: {reason}: `{}`", path.display())]
    Open {
        /// The plug-in.
        path: PathBuf,
        /// The dynamic linker's text.
        reason: String,
    },
    /// The file is not a plug-in of ours.
    #[error("not an MPI transport of pybundle: `{}`", path.display())]
    NotPlugin {
        /// The file.
        path: PathBuf,
    },
    /// The plug-in was built for another version of pybundle.
    #[error(
        "MPI transport was built for another pybundle: `{}`: expected interface {expected}, got {got}; \
         run `pybundle mpi add MPICC` again", path.display()
    )]
    Version {
        /// The plug-in.
        path: PathBuf,
        /// Interface version and table size here.
        expected: String,
        /// The same in the plug-in.
        got: String,
    },
    /// Another plug-in is in use already.
    #[error("an MPI transport is loaded already: `{}`", path.display())]
    Loaded {
        /// The plug-in in use.
        path: PathBuf,
    },
    /// Two MPI libraries in one process, each with a world of its own.
    #[error(
        "two MPI libraries in one process: `{}`, `{}`; run `pybundle mpi add MPICC` with the mpicc \
         of the library that the program uses", first.display(), second.display()
    )]
    TwoLibraries {
        /// Mapped first.
        first: PathBuf,
        /// Mapped next.
        second: PathBuf,
    },
    /// A folder or file could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    /// The text naming a flavour that may be unknown.
    pub(super) fn flavour_name(flavour: Option<Flavour>) -> String {
        flavour.map_or("MPI", Flavour::name).to_owned()
    }
}
