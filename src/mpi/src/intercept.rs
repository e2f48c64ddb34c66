//! `MPI_Init` and `MPI_Init_thread` in front of the library's, through its profiling interface.
//!
//! A program may initialise MPI on its own after we did: `mpi4py.rc.initialize = False` and then
//! `MPI.Init()`, or an extension that does not ask `MPI_Initialized` first. The library would end
//! the job. The plug-in is loaded with global symbol scope before anything that needs MPI, so such
//! a call comes here: the first after our own initialisation succeeds without doing anything, with
//! the thread level that we were granted. Every other call goes to the library: where we did not
//! initialise, after MPI was finalised, and a program's own second call.
//!
//! MPICH's Fortran functions call the C ones by name and need nothing more, but for those of
//! `use mpi_f08`; Open MPI's call its profiling functions. So the Fortran names that bypass the C
//! ones are here too. They do what the libraries' own do, which is no more than to pass on.

#![expect(unsafe_code, reason = "exports and calls C functions")]
#![allow(non_snake_case, reason = "MPI's names")]

use std::ffi::{c_char, c_int};

use mpi::ffi;

use crate::{failure::SUCCESS, session};

/// MPI's own, or success if we have initialised already.
///
/// # Safety
/// As MPI defines it.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn MPI_Init(argc: *mut c_int, argv: *mut *mut *mut c_char) -> c_int {
    if session::answers_init() {
        return SUCCESS;
    }
    session::explain_init();
    // SAFETY: passes the caller's promise on.
    unsafe { ffi::PMPI_Init(argc, argv) }
}

/// MPI's own, or success if we have initialised already.
///
/// # Safety
/// As MPI defines it.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn MPI_Init_thread(
    argc: *mut c_int,
    argv: *mut *mut *mut c_char,
    required: c_int,
    provided: *mut c_int,
) -> c_int {
    if session::answers_init() {
        if !provided.is_null() {
            // SAFETY: MPI's definition makes it writable.
            unsafe { *provided = session::level() };
        }
        return SUCCESS;
    }
    session::explain_init();
    // SAFETY: passes the caller's promise on.
    unsafe { ffi::PMPI_Init_thread(argc, argv, required, provided) }
}

/// The Fortran names, as the compilers in use spell them.
mod fortran {
    use std::ptr;

    use super::{MPI_Init, MPI_Init_thread, ffi};

    /// Fortran's INTEGER: 32 bits, or 64 where the site has chosen so.
    type Integer = ffi::RSMPI_Fint;

    macro_rules! fortran {
        ($($init:ident, $init_thread:ident;)*) => {$(
            /// `MPI_INIT` of Fortran; `error` may be absent.
            ///
            /// # Safety
            /// As MPI defines it.
            #[unsafe(no_mangle)]
            pub(crate) unsafe extern "C" fn $init(error: *mut Integer) {
                // SAFETY: passes the caller's promise on.
                let code = unsafe { MPI_Init(ptr::null_mut(), ptr::null_mut()) };
                if !error.is_null() {
                    // SAFETY: writable, as MPI defines it.
                    unsafe { *error = code.into() };
                }
            }

            /// `MPI_INIT_THREAD` of Fortran; `error` may be absent.
            ///
            /// # Safety
            /// As MPI defines it.
            #[unsafe(no_mangle)]
            pub(crate) unsafe extern "C" fn $init_thread(
                required: *mut Integer,
                provided: *mut Integer,
                error: *mut Integer,
            ) {
                let (argc, argv, mut level) = (ptr::null_mut(), ptr::null_mut(), 0);
                // SAFETY: passes the caller's promise on.
                let code = unsafe { MPI_Init_thread(argc, argv, *required as _, &raw mut level) };
                // SAFETY: writable, as MPI defines it.
                unsafe { *provided = level.into() };
                if !error.is_null() {
                    // SAFETY: as above.
                    unsafe { *error = code.into() };
                }
            }
        )*};
    }

    fortran! {
        mpi_init_f08_, mpi_init_thread_f08_;
    }

    #[cfg(open_mpi)]
    fortran! {
        mpi_init_, mpi_init_thread_;
        mpi_init__, mpi_init_thread__;
        mpi_init, mpi_init_thread;
        MPI_INIT, MPI_INIT_THREAD;
    }
}
