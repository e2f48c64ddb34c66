//! The plug-in's table: C functions around this crate's own.

#![expect(unsafe_code, reason = "exports C functions")]

use std::{ffi::c_int, panic::AssertUnwindSafe, ptr};

use crate::{
    failure::{self, Result, guard},
    groups,
    interface::{Coded, GetTable, NO_GROUP, Started, Table, VERSION},
    requests::{self, Gather},
    session,
};

/// The family whose `mpi.h` this was compiled with.
const FLAVOUR: &[u8] = if cfg!(open_mpi) { b"openmpi" } else { b"mpich" };

static TABLE: Table = Table {
    version: VERSION,
    size: size_of::<Table>() as u32,
    flavour: {
        let mut flavour = [0; 16];
        let mut at = 0;
        while at < FLAVOUR.len() {
            flavour[at] = FLAVOUR[at];
            at += 1;
        }
        flavour
    },
    start,
    library,
    last_error,
    start_join,
    place,
    start_barrier,
    split_shared,
    split,
    broadcast,
    start_broadcast,
    start_lowest,
    start_gather,
    test,
    free,
    abort,
    finalise,
};

/// Gives the table, which is valid for as long as the library is loaded.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn pybundle_mpi_table() -> *const Table {
    &raw const TABLE
}

const _: GetTable = pybundle_mpi_table;

/// Runs `function` and writes what it gives to `to`.
///
/// # Safety
/// `to` is writable.
unsafe fn give<T>(to: *mut T, function: impl FnOnce() -> Result<T>) -> c_int {
    guard(AssertUnwindSafe(|| {
        let value = function()?;
        // SAFETY: the caller's promise.
        unsafe { to.write(value) };
        Ok(())
    }))
}

/// Copies as much of `text` as fits.
///
/// # Safety
/// `to` is writable for `capacity` bytes.
unsafe fn copy(text: &str, to: *mut u8, capacity: usize) -> usize {
    let length = text.len().min(capacity);
    // SAFETY: the caller's promise; the memories are different ones.
    unsafe { ptr::copy_nonoverlapping(text.as_ptr(), to, length) };
    length
}

unsafe extern "C" fn start(started: *mut Started) -> c_int {
    // SAFETY: the table's caller gives writable memory.
    unsafe { give(started, session::start) }
}

unsafe extern "C" fn library(to: *mut u8, capacity: usize) -> usize {
    let mut text = String::new();
    guard(AssertUnwindSafe(|| {
        text = session::library()?;
        Ok(())
    }));
    // SAFETY: the table's caller gives writable memory.
    unsafe { copy(&text, to, capacity) }
}

unsafe extern "C" fn last_error(to: *mut u8, capacity: usize) -> usize {
    // SAFETY: the table's caller gives writable memory.
    unsafe { copy(&failure::last(), to, capacity) }
}

unsafe extern "C" fn start_join(request: *mut u64) -> c_int {
    // SAFETY: the table's caller gives writable memory.
    unsafe { give(request, requests::start_join) }
}

unsafe extern "C" fn place(group: u32, rank: *mut u32, size: *mut u32) -> c_int {
    guard(AssertUnwindSafe(|| {
        let place = groups::place(group)?;
        // SAFETY: the table's caller gives writable memory.
        unsafe { (*rank, *size) = place };
        Ok(())
    }))
}

unsafe extern "C" fn start_barrier(group: u32, request: *mut u64) -> c_int {
    // SAFETY: the table's caller gives writable memory.
    unsafe { give(request, || requests::start_barrier(group)) }
}

unsafe extern "C" fn split_shared(group: u32, new: *mut u32) -> c_int {
    // SAFETY: the table's caller gives writable memory.
    unsafe { give(new, || groups::split_shared(group)) }
}

unsafe extern "C" fn split(group: u32, color: c_int, key: c_int, new: *mut u32) -> c_int {
    let color = (color >= 0).then_some(color);
    // SAFETY: the table's caller gives writable memory.
    unsafe {
        give(new, || {
            Ok(groups::split(group, color, key)?.unwrap_or(NO_GROUP))
        })
    }
}

unsafe extern "C" fn broadcast(group: u32, root: u32, bytes: *mut u8, length: u32) -> c_int {
    // SAFETY: the table's caller gives memory of this length.
    guard(|| unsafe { requests::broadcast(group, root, bytes, length) })
}

unsafe extern "C" fn start_broadcast(
    group: u32,
    root: u32,
    bytes: *mut u8,
    length: u32,
    request: *mut u64,
) -> c_int {
    // SAFETY: the table's caller gives memory of this length until the request is complete.
    unsafe {
        give(request, || {
            requests::start_broadcast(group, root, bytes, length)
        })
    }
}

unsafe extern "C" fn start_lowest(group: u32, pair: *mut Coded, request: *mut u64) -> c_int {
    // SAFETY: the table's caller gives two pairs until the request is complete.
    unsafe { give(request, || requests::start_lowest(group, pair)) }
}

unsafe extern "C" fn start_gather(
    group: u32,
    root: u32,
    part: *const u8,
    length: u32,
    all: *mut u8,
    lengths: *const c_int,
    offsets: *const c_int,
    request: *mut u64,
) -> c_int {
    let gather = Gather {
        part,
        length,
        all,
        lengths,
        offsets,
    };
    // SAFETY: the table's caller gives memory as described, until the request is complete.
    unsafe { give(request, || requests::start_gather(group, root, &gather)) }
}

unsafe extern "C" fn test(request: u64, done: *mut u32) -> c_int {
    // SAFETY: the table's caller gives writable memory.
    unsafe { give(done, || requests::test(request).map(u32::from)) }
}

unsafe extern "C" fn free(group: u32) -> c_int {
    guard(|| groups::free(group))
}

unsafe extern "C" fn abort(status: c_int) -> c_int {
    guard(|| session::abort(status))
}

unsafe extern "C" fn finalise() -> c_int {
    guard(session::finalise)
}
