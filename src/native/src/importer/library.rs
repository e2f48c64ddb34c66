#![expect(unsafe_code, reason = "opening a library is a C function")]
//! Shared libraries that extension modules need, opened from the tree before the module is.
//!
//! The dynamic linker then finds each by its SONAME among the loaded ones and searches nothing.

use std::{
    ffi::{CStr, CString, OsStr},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

/// Opens a library for the life of the process.
///
/// # Errors
/// The dynamic linker's message.
pub(crate) fn open(path: &Path) -> Result<(), String> {
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| format!("NUL byte in a path: `{}`", path.display()))?;
    // SAFETY: a NUL-terminated path. Initialisers of a library run as they would run when the
    // dynamic linker loads it for the module. The handle is kept open on purpose.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: after a failed `dlopen` of this thread the message is a valid string until the next
    // call, and it is copied before that.
    let message = unsafe {
        let message = libc::dlerror();
        if message.is_null() {
            None
        } else {
            Some(CStr::from_ptr(message).to_string_lossy().into_owned())
        }
    };
    Err(message.unwrap_or_else(|| format!("can't open `{}`", path.display())))
}

/// Is a library of this name, SONAME or path as it was opened, in the process?
pub(crate) fn is_loaded(name: &OsStr) -> bool {
    let Ok(name) = CString::new(name.as_bytes()) else {
        return false;
    };
    // SAFETY: with RTLD_NOLOAD nothing is loaded and no code of the library runs.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    if handle.is_null() {
        return false;
    }
    // SAFETY: gives back the reference taken above.
    unsafe { libc::dlclose(handle) };
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loaded_library_is_known_by_its_soname() {
        assert!(is_loaded("libc.so.6".as_ref()));
        assert!(!is_loaded("libmpi.so.40".as_ref()));
    }

    #[test]
    fn errors_name_the_library() {
        let message = open(Path::new("/nonexistent/lib.so")).unwrap_err();
        assert!(message.contains("/nonexistent/lib.so"), "{message}");
    }
}
