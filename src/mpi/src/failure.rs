//! Failures as text, since nothing else crosses the C table.

#![expect(unsafe_code, reason = "asks MPI for the text of an error")]

use std::{
    any::Any,
    ffi::c_int,
    panic::{self, UnwindSafe},
    sync::{Mutex, PoisonError},
};

use mpi::ffi;

use crate::interface::{FAILED, OK};

/// What an MPI function returns if it went well.
pub(crate) const SUCCESS: c_int = ffi::MPI_SUCCESS.cast_signed();

/// Bytes for a text of MPI. Its limits differ between versions; 8192 is the largest.
pub(crate) const TEXT: usize = 8192;

/// This process's last failure.
static LAST: Mutex<String> = Mutex::new(String::new());

/// Why a function of the table failed.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Turns an MPI return code into a failure that names the call.
pub(crate) fn check(call: &str, code: c_int) -> Result<()> {
    if code == SUCCESS {
        return Ok(());
    }
    let mut text = [0_u8; TEXT];
    let mut length = 0;
    // SAFETY: the buffer is longer than any MPI's MPI_MAX_ERROR_STRING.
    let known = unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr().cast(), &raw mut length) };
    let text = match usize::try_from(length) {
        Ok(length) if known == SUCCESS => text.get(..length),
        _ => None,
    };
    let text = text.map(|text| String::from_utf8_lossy(text).into_owned());
    Err(Failure(format!(
        "{call}: {}",
        text.unwrap_or_else(|| format!("error {code}"))
    )))
}

/// Runs a function of the table: keeps the text of its failure, and panics on this side.
pub(crate) fn guard(function: impl FnOnce() -> Result<()> + UnwindSafe) -> c_int {
    let failure = match panic::catch_unwind(function) {
        Ok(Ok(())) => return OK,
        Ok(Err(Failure(text))) => text,
        Err(panic) => format!("panic in the MPI transport: {}", message(&*panic)),
    };
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    FAILED
}

/// The text of the last failure.
pub(crate) fn last() -> String {
    LAST.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
