//! The C table between an MPI transport plug-in and crate `load`, which opens it.
//!
//! This file is compiled into both sides (`load` includes it by path), so the two cannot drift
//! within one build; across builds [`VERSION`] and [`Table::size`] are compared before anything
//! else of the table is read. Only C types cross, no MPI type and no panic. Functions return
//! [`OK`] or [`FAILED`], the text is in [`Table::last_error`]. Groups are small numbers: 0 is our
//! duplicate of the world, made by [`Table::start_join`]. Calls named `start_…` give a request,
//! which [`Table::test`] drives to its end; memory given to them belongs to MPI until then. Bytes
//! lie in real memory even when there are none: to MPI, some small addresses mean other things.

use std::ffi::c_int;

/// Version of the table. Raise it with every change of this file.
pub(crate) const VERSION: u32 = 1;

/// Name of the function that a plug-in exports: [`GetTable`].
#[allow(dead_code, reason = "named by the one who opens it alone")]
pub(crate) const SYMBOL: &str = "pybundle_mpi_table";

/// Gives the plug-in's table, which lives as long as the process.
pub(crate) type GetTable = unsafe extern "C" fn() -> *const Table;

/// A function's success.
pub(crate) const OK: c_int = 0;

/// A function's failure; see [`Table::last_error`].
#[allow(dead_code, reason = "named by the plug-in alone")]
pub(crate) const FAILED: c_int = 1;

/// No group: what [`Table::split`] gives to a rank without a color.
pub(crate) const NO_GROUP: u32 = u32::MAX;

/// What [`Table::start`] found.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Started {
    /// Rank in MPI_COMM_WORLD.
    pub(crate) rank: u32,
    /// Ranks of MPI_COMM_WORLD.
    pub(crate) size: u32,
    /// 0 single, 1 funneled, 2 serialized, 3 multiple.
    pub(crate) thread_level: u32,
    /// 1 if this call initialised MPI, 0 if it was initialised before.
    pub(crate) initialised_here: u32,
}

/// A code and the rank that gives it, as reduced by [`Table::start_lowest`].
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Coded {
    /// The code.
    pub(crate) code: i64,
    /// The rank.
    pub(crate) rank: i64,
}

/// The plug-in's functions.
#[repr(C)]
pub(crate) struct Table {
    /// [`VERSION`] of the plug-in.
    pub(crate) version: u32,
    /// Size of the plug-in's table in bytes.
    pub(crate) size: u32,
    /// `openmpi` or `mpich`, padded with zeros: whose `mpi.h` the plug-in was built with.
    pub(crate) flavour: [u8; 16],
    /// Initialises MPI unless it is; refuses if it was finalised. Not collective by itself.
    pub(crate) start: unsafe extern "C" fn(started: *mut Started) -> c_int,
    /// Copies the library's version text, at most `capacity` bytes; returns the bytes copied.
    pub(crate) library: unsafe extern "C" fn(text: *mut u8, capacity: usize) -> usize,
    /// Copies the text of this process's last failure; returns the bytes copied.
    pub(crate) last_error: unsafe extern "C" fn(text: *mut u8, capacity: usize) -> usize,
    /// Duplicates the world: group 0 exists when the request is complete.
    pub(crate) start_join: unsafe extern "C" fn(request: *mut u64) -> c_int,
    /// Rank and size in a group.
    pub(crate) place: unsafe extern "C" fn(group: u32, rank: *mut u32, size: *mut u32) -> c_int,
    /// A barrier.
    pub(crate) start_barrier: unsafe extern "C" fn(group: u32, request: *mut u64) -> c_int,
    /// Blocking split by shared memory.
    pub(crate) split_shared: unsafe extern "C" fn(group: u32, new: *mut u32) -> c_int,
    /// Blocking split; a negative color gives [`NO_GROUP`].
    pub(crate) split:
        unsafe extern "C" fn(group: u32, color: c_int, key: c_int, new: *mut u32) -> c_int,
    /// Blocking broadcast of at most 2^31-1 bytes.
    pub(crate) broadcast:
        unsafe extern "C" fn(group: u32, root: u32, bytes: *mut u8, length: u32) -> c_int,
    /// Broadcast of at most 2^31-1 bytes.
    pub(crate) start_broadcast: unsafe extern "C" fn(
        group: u32,
        root: u32,
        bytes: *mut u8,
        length: u32,
        request: *mut u64,
    ) -> c_int,
    /// Reduces `pair[0]` of every rank into everybody's `pair[1]`: lowest code, then lowest rank.
    pub(crate) start_lowest:
        unsafe extern "C" fn(group: u32, pair: *mut Coded, request: *mut u64) -> c_int,
    /// Gathers at most 2^31-1 bytes at root; `all`, `lengths` and `offsets` (one for each rank)
    /// are read there alone.
    pub(crate) start_gather: unsafe extern "C" fn(
        group: u32,
        root: u32,
        part: *const u8,
        length: u32,
        all: *mut u8,
        lengths: *const c_int,
        offsets: *const c_int,
        request: *mut u64,
    ) -> c_int,
    /// Sets `done` to 1 and forgets the request if it is complete, else to 0.
    pub(crate) test: unsafe extern "C" fn(request: u64, done: *mut u32) -> c_int,
    /// Frees a group made by a split.
    pub(crate) free: unsafe extern "C" fn(group: u32) -> c_int,
    /// Ends the job. Returns only if MPI cannot do it: not running, or in a forked child.
    pub(crate) abort: unsafe extern "C" fn(status: c_int) -> c_int,
    /// Frees what is ours; finalises MPI if `start` initialised it and nobody has finalised it
    /// since. Nothing in a forked child. May be called again.
    pub(crate) finalise: unsafe extern "C" fn() -> c_int,
}
