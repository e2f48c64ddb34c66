//! Our communicators, by number.

#![expect(unsafe_code, reason = "calls MPI")]

use std::{
    ffi::c_int,
    sync::{Mutex, MutexGuard, PoisonError},
};

use mpi::ffi;

use crate::failure::{Failure, Result, check};

/// Number of our duplicate of the world.
pub(crate) const WORLD: u32 = 0;

/// Communicators by number; a freed number is not used again.
struct Groups(Vec<Option<ffi::MPI_Comm>>);

// SAFETY: a communicator is a handle that any thread may hold.
unsafe impl Send for Groups {}

static GROUPS: Mutex<Groups> = Mutex::new(Groups(Vec::new()));

fn groups() -> MutexGuard<'static, Groups> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The communicator of a group.
pub(crate) fn communicator(group: u32) -> Result<ffi::MPI_Comm> {
    let found = groups().0.get(group as usize).copied().flatten();
    found.ok_or_else(|| match group {
        WORLD => Failure("the world was not joined, or MPI was finalised".to_owned()),
        _ => Failure(format!("no such group: {group}")),
    })
}

/// Takes in our duplicate of the world. Errors on it and its children come back as codes.
pub(crate) fn set_world(world: ffi::MPI_Comm) -> Result<()> {
    // SAFETY: the communicator is ours; the constant is initialised by the linker.
    let code = unsafe { ffi::MPI_Comm_set_errhandler(world, ffi::RSMPI_ERRORS_RETURN) };
    check("MPI_Comm_set_errhandler", code)?;
    let mut groups = groups();
    match groups.0.first_mut() {
        Some(slot) => *slot = Some(world),
        None => groups.0.push(Some(world)),
    }
    Ok(())
}

/// Rank and size in a group.
pub(crate) fn place(group: u32) -> Result<(u32, u32)> {
    let comm = communicator(group)?;
    let (mut rank, mut size) = (0, 0);
    // SAFETY: both are writable for the call.
    check("MPI_Comm_rank", unsafe {
        ffi::MPI_Comm_rank(comm, &raw mut rank)
    })?;
    // SAFETY: as above.
    check("MPI_Comm_size", unsafe {
        ffi::MPI_Comm_size(comm, &raw mut size)
    })?;
    Ok((rank.unsigned_abs(), size.unsigned_abs()))
}

/// Splits by shared memory. Blocks until all ranks of the group have come.
pub(crate) fn split_shared(group: u32) -> Result<u32> {
    let comm = communicator(group)?;
    // SAFETY: reads a constant that the linker initialises.
    let mut new = unsafe { ffi::RSMPI_COMM_NULL };
    // SAFETY: `new` is writable for the call; the same rank order is kept by equal keys.
    check("MPI_Comm_split_type", unsafe {
        let (kind, info) = (ffi::RSMPI_COMM_TYPE_SHARED, ffi::RSMPI_INFO_NULL);
        ffi::MPI_Comm_split_type(comm, kind, 0, info, &raw mut new)
    })?;
    Ok(add(new))
}

/// Splits by color and key; no color, no group. Blocks until all ranks of the group have come.
pub(crate) fn split(group: u32, color: Option<c_int>, key: c_int) -> Result<Option<u32>> {
    let comm = communicator(group)?;
    // SAFETY: reads constants that the linker initialises.
    let (mut new, none) = unsafe { (ffi::RSMPI_COMM_NULL, ffi::RSMPI_UNDEFINED) };
    let shade = color.unwrap_or(none);
    // SAFETY: `new` is writable for the call.
    let code = unsafe { ffi::MPI_Comm_split(comm, shade, key, &raw mut new) };
    check("MPI_Comm_split", code)?;
    Ok(color.map(|_| add(new)))
}

fn add(comm: ffi::MPI_Comm) -> u32 {
    let mut groups = groups();
    groups.0.push(Some(comm));
    // Numbers of groups are limited by MPI's own, far below 2^32.
    (groups.0.len() - 1) as u32
}

/// Frees a group made by a split.
pub(crate) fn free(group: u32) -> Result<()> {
    if group == WORLD {
        return Err(Failure(
            "the world is freed when MPI is finalised".to_owned(),
        ));
    }
    let mut comm = communicator(group)?;
    groups().0[group as usize] = None;
    // SAFETY: the communicator is ours and nobody has its number any more.
    check("MPI_Comm_free", unsafe {
        ffi::MPI_Comm_free(&raw mut comm)
    })
}

/// Frees all groups, youngest first; the first failure is given after all were tried.
pub(crate) fn free_all() -> Result<()> {
    let all = std::mem::take(&mut groups().0);
    let mut result = Ok(());
    for mut comm in all.into_iter().rev().flatten() {
        // SAFETY: the communicator is ours and nobody has its number any more.
        let code = unsafe { ffi::MPI_Comm_free(&raw mut comm) };
        result = result.and(check("MPI_Comm_free", code));
    }
    result
}
