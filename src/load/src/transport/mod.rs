//! How the ranks of a job talk while a bundle is loaded.
//!
//! [`Transport`] is all that the rest of the crate knows of a job: ranks, groups of ranks and a
//! handful of collective calls. [`Local`] is a job of one process; [`World`] is an MPI job, reached
//! through a plug-in that is opened at run time, so that neither this crate nor a single process
//! needs an MPI library. [`launcher`] tells whether there is a job, [`choice`] which plug-in fits.
//!
//! Every collective call takes a [`Wait`]: how long, how patiently, and what to say. All ranks of a
//! group make the same calls in the same order with the same lengths.

mod calls;
pub mod choice;
mod error;
pub mod hydra;
// Written once: the plug-in's crate is built alone on the machines that add one.
#[path = "../../../mpi/src/interface.rs"]
mod interface;
pub mod launcher;
mod local;
pub mod mapped;
pub mod plugin;
pub(crate) mod say;
mod wait;
mod watch;
mod world;

pub use error::{Error, Result};
pub use launcher::{Flavour, Launcher};
pub use local::Local;
pub use wait::{GiveUp, Pace, Tick, Wait};
pub use world::World;

/// A group of ranks with its own numbering from 0: a communicator.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Group(pub u32);

impl Group {
    /// All ranks of the job. Usable in collective calls after [`Transport::join`].
    pub const WORLD: Self = Self(0);
}

/// The lowest code of a group and the lowest rank that gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lowest {
    /// The lowest code.
    pub code: i64,
    /// The lowest rank, in the group's numbering, whose code that is.
    pub rank: u32,
}

/// What threads may do with MPI, in MPI's own words and order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ThreadLevel {
    /// One thread only.
    Single,
    /// Several threads, the main one alone calls MPI.
    Funneled,
    /// Several threads, one call at a time.
    Serialized,
    /// Any thread at any time.
    Multiple,
}

impl ThreadLevel {
    /// The level's name in MPI, for receipts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "MPI_THREAD_SINGLE",
            Self::Funneled => "MPI_THREAD_FUNNELED",
            Self::Serialized => "MPI_THREAD_SERIALIZED",
            Self::Multiple => "MPI_THREAD_MULTIPLE",
        }
    }
}

/// The ranks of a job and the collective calls that loading needs.
///
/// Each method that takes a [`Wait`] is collective over its group. All fail with
/// [`Error::TimedOut`] or [`Error::GaveUp`] when the wait ends first; the group is of no use
/// after that, and the rank should [`abort`](Self::abort).
pub trait Transport {
    /// The MPI library's name and version in its own words; `none` without MPI.
    fn library(&self) -> &str;

    /// Which family of MPI libraries this is, `None` without MPI.
    fn flavour(&self) -> Option<Flavour>;

    /// The thread level that MPI granted.
    fn thread_level(&self) -> ThreadLevel;

    /// Whether MPI was initialised by us and not by the program.
    fn initialised_here(&self) -> bool;

    /// This process's rank in `group`, below [`size`](Self::size).
    fn rank(&self, group: Group) -> u32;

    /// Number of ranks in `group`, at least 1.
    fn size(&self, group: Group) -> u32;

    /// Makes [`Group::WORLD`] ready: the first collective call of a job, polled, so that a rank
    /// that never comes is found out.
    ///
    /// # Errors
    /// [`Error::NotJoined`] when the deadline passes.
    fn join(&mut self, wait: &mut Wait<'_>) -> Result<()>;

    /// Returns when all ranks of `group` have called it.
    ///
    /// # Errors
    /// See [`Transport`].
    fn barrier(&mut self, group: Group, wait: &mut Wait<'_>) -> Result<()>;

    /// The ranks of `group` that share memory with this one according to MPI.
    ///
    /// # Errors
    /// See [`Transport`].
    fn split_shared(&mut self, group: Group, wait: &mut Wait<'_>) -> Result<Group>;

    /// The ranks of `group` that give the same `color`, ordered by `key`, then by rank.
    /// A rank without a color gets no group. Colors are below 2^31.
    ///
    /// # Errors
    /// See [`Transport`].
    fn split(
        &mut self,
        group: Group,
        color: Option<u32>,
        key: u32,
        wait: &mut Wait<'_>,
    ) -> Result<Option<Group>>;

    /// Copies root's `buffer` into the `buffer` of every other rank; any length, the same on all.
    ///
    /// With [`Pace::Block`] this is a plain blocking broadcast that no deadline interrupts: for
    /// bytes that root is known to have at hand. When a polled broadcast of more than 1 MiB is
    /// given up, the library still owns `buffer`: the message is written to stderr and the job
    /// aborted, since returning would not be safe.
    ///
    /// # Errors
    /// See [`Transport`].
    fn broadcast(
        &mut self,
        group: Group,
        root: u32,
        buffer: &mut [u8],
        wait: &mut Wait<'_>,
    ) -> Result<()>;

    /// The lowest `code` of the group and who gave it: the agreement after each phase.
    ///
    /// # Errors
    /// See [`Transport`].
    fn lowest(&mut self, group: Group, code: i64, wait: &mut Wait<'_>) -> Result<Lowest>;

    /// Every rank's `part` at `root`, in rank order; `None` elsewhere. Parts may differ in length.
    ///
    /// # Errors
    /// See [`Transport`].
    fn gather(
        &mut self,
        group: Group,
        root: u32,
        part: &[u8],
        wait: &mut Wait<'_>,
    ) -> Result<Option<Vec<Vec<u8>>>>;

    /// Gives a group back. Not for [`Group::WORLD`], which [`finalise`](Self::finalise) frees.
    fn free(&mut self, group: Group);

    /// Ends every process of the job with `status`, this one included.
    fn abort(&mut self, status: i32) -> !;

    /// Frees our groups; then finalises MPI if we initialised it and nobody has finalised it yet.
    ///
    /// # Errors
    /// [`Error::Mpi`] if the library refuses.
    fn finalise(&mut self) -> Result<()>;
}
