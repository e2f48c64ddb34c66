//! Collective calls under way, by number.

#![expect(unsafe_code, reason = "calls MPI")]

use std::{
    collections::BTreeMap,
    ffi::{c_int, c_void},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use mpi::ffi;

use crate::{
    failure::{Failure, Result, check},
    groups::{self, communicator},
    interface::Coded,
    lowest,
};

/// A call that MPI has not completed.
struct Pending {
    request: ffi::MPI_Request,
    /// Where the new communicator appears, if the call makes one; from `Box::into_raw`.
    new: Option<*mut ffi::MPI_Comm>,
}

#[derive(Default)]
struct Requests {
    last: u64,
    pending: BTreeMap<u64, Pending>,
}

// SAFETY: a request is a handle that any thread may hold, and the box behind `new` is owned.
unsafe impl Send for Requests {}

static REQUESTS: Mutex<Option<Requests>> = Mutex::new(None);

fn requests() -> MutexGuard<'static, Option<Requests>> {
    REQUESTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a call and gives it a number.
fn start(
    call: &str,
    new: Option<*mut ffi::MPI_Comm>,
    function: impl FnOnce(*mut ffi::MPI_Request) -> c_int,
) -> Result<u64> {
    // SAFETY: reads a constant that the linker initialises.
    let mut request = unsafe { ffi::RSMPI_REQUEST_NULL };
    check(call, function(&raw mut request))?;
    let mut requests = requests();
    let requests = requests.get_or_insert_default();
    requests.last += 1;
    requests
        .pending
        .insert(requests.last, Pending { request, new });
    Ok(requests.last)
}

/// Duplicates the world.
pub(crate) fn start_join() -> Result<u64> {
    // SAFETY: reads a constant that the linker initialises.
    let none = unsafe { ffi::RSMPI_COMM_NULL };
    // If the call fails MPI may still write there, so the box is never freed then.
    let new = Box::into_raw(Box::new(none));
    start("MPI_Comm_idup", Some(new), |request| {
        // SAFETY: `new` stays in place until the request is complete.
        unsafe { ffi::MPI_Comm_idup(ffi::RSMPI_COMM_WORLD, new, request) }
    })
}

/// Starts a barrier.
pub(crate) fn start_barrier(group: u32) -> Result<u64> {
    let comm = communicator(group)?;
    start("MPI_Ibarrier", None, |request| {
        // SAFETY: `request` is writable for the call.
        unsafe { ffi::MPI_Ibarrier(comm, request) }
    })
}

/// Broadcasts, and returns when `bytes` may be used again.
///
/// # Safety
/// `bytes` is valid for `length` bytes, to read at `root`, to write elsewhere.
pub(crate) unsafe fn broadcast(group: u32, root: u32, bytes: *mut u8, length: u32) -> Result<()> {
    let (comm, root, length) = (
        communicator(group)?,
        int("root", root)?,
        int("length", length)?,
    );
    // SAFETY: the caller's promise.
    check("MPI_Bcast", unsafe {
        ffi::MPI_Bcast(bytes.cast(), length, ffi::RSMPI_UINT8_T, root, comm)
    })
}

/// Starts a broadcast.
///
/// # Safety
/// As for [`broadcast`], until the request is complete.
pub(crate) unsafe fn start_broadcast(
    group: u32,
    root: u32,
    bytes: *mut u8,
    length: u32,
) -> Result<u64> {
    let (comm, root, length) = (
        communicator(group)?,
        int("root", root)?,
        int("length", length)?,
    );
    start("MPI_Ibcast", None, |request| {
        // SAFETY: the caller's promise.
        unsafe {
            ffi::MPI_Ibcast(
                bytes.cast(),
                length,
                ffi::RSMPI_UINT8_T,
                root,
                comm,
                request,
            )
        }
    })
}

/// Starts the reduction of every rank's `pair[0]` into `pair[1]`.
///
/// # Safety
/// `pair` is valid for two pairs until the request is complete.
pub(crate) unsafe fn start_lowest(group: u32, pair: *mut Coded) -> Result<u64> {
    let comm = communicator(group)?;
    let (kind, operation) = lowest::reduction()?;
    start("MPI_Iallreduce", None, |request| {
        // SAFETY: the caller's promise.
        unsafe {
            let (from, to) = (pair.cast::<c_void>(), pair.add(1).cast::<c_void>());
            ffi::MPI_Iallreduce(from, to, 1, kind, operation, comm, request)
        }
    })
}

/// What a rank gives to a gather, and where root takes it all.
pub(crate) struct Gather {
    pub(crate) part: *const u8,
    pub(crate) length: u32,
    pub(crate) all: *mut u8,
    pub(crate) lengths: *const c_int,
    pub(crate) offsets: *const c_int,
}

/// Starts a gather.
///
/// # Safety
/// Until the request is complete: `part` is valid for `length` bytes; at root `lengths` and
/// `offsets` are valid for one number for each rank, and `all` for the bytes that they describe.
pub(crate) unsafe fn start_gather(group: u32, root: u32, gather: &Gather) -> Result<u64> {
    let (comm, root) = (communicator(group)?, int("root", root)?);
    let length = int("length", gather.length)?;
    start("MPI_Igatherv", None, |request| {
        // SAFETY: the caller's promise.
        unsafe {
            let byte = ffi::RSMPI_UINT8_T;
            ffi::MPI_Igatherv(
                gather.part.cast(),
                length,
                byte,
                gather.all.cast(),
                gather.lengths,
                gather.offsets,
                byte,
                root,
                comm,
                request,
            )
        }
    })
}

/// Whether a call is complete; a complete one is forgotten.
pub(crate) fn test(number: u64) -> Result<bool> {
    let mut requests = requests();
    let pending = requests.as_mut().map(|requests| &mut requests.pending);
    let Some(pending) = pending else {
        return Err(unknown(number));
    };
    let Some(call) = pending.get_mut(&number) else {
        return Err(unknown(number));
    };
    let mut done = 0;
    // SAFETY: the request is ours, `done` is writable, the status is not wanted.
    let code = unsafe {
        ffi::MPI_Test(
            &raw mut call.request,
            &raw mut done,
            ffi::RSMPI_STATUS_IGNORE,
        )
    };
    let result = check("MPI_Test", code);
    if result.is_ok() && done == 0 {
        return Ok(false);
    }
    let new = pending.remove(&number).and_then(|call| call.new);
    result?;
    if let Some(new) = new {
        // SAFETY: it came from a box, and the call that wrote it is complete.
        groups::set_world(*unsafe { Box::from_raw(new) })?;
    }
    Ok(true)
}

/// Drives all calls under way to their end, at most for `longest`.
pub(crate) fn complete_all(longest: Duration) -> Result<()> {
    let start = Instant::now();
    loop {
        let next = requests()
            .as_ref()
            .and_then(|all| all.pending.keys().next().copied());
        let Some(number) = next else { return Ok(()) };
        while !test(number)? {
            if start.elapsed() > longest {
                let seconds = longest.as_secs();
                return Err(Failure(format!(
                    "a collective call of the load did not complete within {seconds} s: some \
                     ranks never made it"
                )));
            }
            thread::sleep(Duration::from_micros(200));
        }
    }
}

fn unknown(number: u64) -> Failure {
    Failure(format!("no such request: {number}"))
}

fn int(what: &str, number: u32) -> Result<c_int> {
    c_int::try_from(number).map_err(|_| Failure(format!("{what} is too large: {number}")))
}
