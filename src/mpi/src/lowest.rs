//! The reduction behind an agreement: lowest code, then lowest rank.
//!
//! MPI_MINLOC has no pair of two 64-bit numbers, so this is the same with a type of our own.

#![expect(unsafe_code, reason = "calls MPI, and is called by it")]

use std::{
    ffi::{c_int, c_void},
    sync::{Mutex, PoisonError},
};

use mpi::ffi;

use crate::{
    failure::{Result, check},
    interface::Coded,
};

/// The pair's datatype and its reduction.
struct Reduction {
    pair: ffi::MPI_Datatype,
    operation: ffi::MPI_Op,
}

// SAFETY: both are handles that any thread may hold.
unsafe impl Send for Reduction {}

static REDUCTION: Mutex<Option<Reduction>> = Mutex::new(None);

/// The pair's datatype and the reduction, made at first use.
pub(crate) fn reduction() -> Result<(ffi::MPI_Datatype, ffi::MPI_Op)> {
    let mut reduction = REDUCTION.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Reduction { pair, operation }) = *reduction {
        return Ok((pair, operation));
    }
    // SAFETY: reads constants that the linker initialises.
    let (mut pair, number) = unsafe { (ffi::RSMPI_DATATYPE_NULL, ffi::RSMPI_INT64_T) };
    // SAFETY: `pair` is writable for the call.
    check("MPI_Type_contiguous", unsafe {
        ffi::MPI_Type_contiguous(2, number, &raw mut pair)
    })?;
    // SAFETY: `pair` was made above.
    check("MPI_Type_commit", unsafe {
        ffi::MPI_Type_commit(&raw mut pair)
    })?;
    // SAFETY: any value will do, MPI replaces it.
    let mut operation = unsafe { ffi::RSMPI_MIN };
    // SAFETY: the function reads and writes pairs alone; it is commutative.
    check("MPI_Op_create", unsafe {
        ffi::MPI_Op_create(Some(reduce), 1, &raw mut operation)
    })?;
    *reduction = Some(Reduction { pair, operation });
    Ok((pair, operation))
}

/// Frees both, if they were made.
pub(crate) fn free() -> Result<()> {
    let reduction = REDUCTION
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let Some(Reduction {
        mut pair,
        mut operation,
    }) = reduction
    else {
        return Ok(());
    };
    // SAFETY: the operation is ours, and no call that uses it is under way.
    check("MPI_Op_free", unsafe {
        ffi::MPI_Op_free(&raw mut operation)
    })?;
    // SAFETY: the same for the datatype.
    check("MPI_Type_free", unsafe {
        ffi::MPI_Type_free(&raw mut pair)
    })
}

/// MPI's callback: each pair of `others` into `kept`.
unsafe extern "C" fn reduce(
    others: *mut c_void,
    kept: *mut c_void,
    length: *mut c_int,
    _: *mut ffi::MPI_Datatype,
) {
    let (others, kept) = (others.cast::<Coded>(), kept.cast::<Coded>());
    // SAFETY: MPI gives a valid pointer.
    let length = usize::try_from(unsafe { *length }).unwrap_or(0);
    for at in 0..length {
        // SAFETY: MPI gives `length` pairs in both, which need not be aligned in its own buffers.
        unsafe {
            let other = others.add(at).read_unaligned();
            let mine = kept.add(at).read_unaligned();
            if (other.code, other.rank) < (mine.code, mine.rank) {
                kept.add(at).write_unaligned(other);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_code_wins_and_among_equals_the_lower_rank() {
        let pair = |code, rank| Coded { code, rank };
        let mut others = [pair(-1, 7), pair(5, 0), pair(3, 1), pair(3, 2)];
        let mut kept = [pair(0, 1), pair(4, 9), pair(3, 2), pair(3, 1)];
        let mut length = 4;
        let (others, into) = (others.as_mut_ptr().cast(), kept.as_mut_ptr().cast());
        // SAFETY: both arrays have four pairs; the datatype is not looked at.
        unsafe { reduce(others, into, &raw mut length, std::ptr::null_mut()) };
        assert_eq!(
            kept.map(|kept| (kept.code, kept.rank)),
            [(-1, 7), (4, 9), (3, 1), (3, 1)]
        );
    }
}
