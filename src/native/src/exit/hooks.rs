//! The C side of leaving: handlers of the interpreter's and the process's end.

#![expect(unsafe_code, reason = "registers C handlers and ends the process")]

use std::{
    ffi::{CStr, c_int, c_void},
    mem, panic,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
};

use pyo3::ffi;

/// The process that registered; 0 before.
static REGISTERED: AtomicU32 = AtomicU32::new(0);

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    /// glibc's: calls `function` with the status given to `exit`.
    fn on_exit(function: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
}

/// Registers both handlers. The interpreter's own runs when all modules are gone; the process's
/// knows the status, also of a program that Python itself runs or that leaves by C's `exit`.
pub(super) fn register() {
    REGISTERED.store(std::process::id(), SeqCst);
    // SAFETY: the function needs nothing of the interpreter. If all 32 places are taken, the
    // process's handler does the work.
    unsafe { ffi::Py_AtExit(Some(interpreter_ends)) };
    #[cfg(target_env = "gnu")]
    // SAFETY: the function lives as long as the process, as extensions are never unloaded.
    unsafe {
        on_exit(process_ends, std::ptr::null_mut())
    };
    #[cfg(not(target_env = "gnu"))]
    // SAFETY: as above.
    unsafe {
        libc::atexit(process_ends_with_failure_known)
    };
}

/// Whether this is the process that registered, and not a child forked from it.
pub(super) fn in_registered_process() -> bool {
    REGISTERED.load(SeqCst) == std::process::id()
}

extern "C" fn interpreter_ends() {
    // A panic must not cross into C; there is nobody left to tell.
    let _ = panic::catch_unwind(super::interpreter_ends);
}

#[cfg(target_env = "gnu")]
extern "C" fn process_ends(status: c_int, _: *mut c_void) {
    let _ = panic::catch_unwind(|| super::process_ends(status));
}

#[cfg(not(target_env = "gnu"))]
extern "C" fn process_ends_with_failure_known() {
    let _ = panic::catch_unwind(|| super::process_ends(super::FAILED.load(SeqCst)));
}

/// Whether an MPI library is loaded, initialised and not finalised.
pub(super) fn mpi_runs() -> bool {
    mpi_flag(c"MPI_Initialized") && !mpi_flag(c"MPI_Finalized")
}

fn mpi_flag(name: &CStr) -> bool {
    type Flag = unsafe extern "C" fn(*mut c_int) -> c_int;
    // SAFETY: looks up a name in this process.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if found.is_null() {
        return false;
    }
    let mut flag = 0;
    // SAFETY: both functions of MPI have this type and may be called at any time.
    unsafe { mem::transmute::<*mut c_void, Flag>(found)(&raw mut flag) };
    flag != 0
}

/// Ends this process with the handlers of C, but without the interpreter's.
pub(super) fn exit_now(status: i32) -> ! {
    std::process::exit(status)
}

/// Ends this process without the handlers of C that are still to come.
pub(super) fn flush_and_end(status: i32) -> ! {
    // SAFETY: writes what C's streams hold; what is printed by now is printed.
    unsafe { libc::fflush(std::ptr::null_mut()) };
    end_at_once(status)
}

/// Ends this process at once.
pub(super) fn end_at_once(status: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(status) }
}

/// Ends this process by SIGINT with its default action.
pub(super) fn die_of_interrupt() {
    // SAFETY: sets a default action and sends a signal to this process.
    unsafe {
        libc::signal(libc::SIGINT, libc::SIG_DFL);
        libc::kill(libc::getpid(), libc::SIGINT);
    }
}
