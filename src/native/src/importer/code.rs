#![expect(
    unsafe_code,
    reason = "unmarshalling, compiling and evaluating code are C functions"
)]
//! Code from the node image: unmarshalled from the mapping, run as `exec` runs it. And a program's,
//! compiled as the interpreter does.

use std::{
    ffi::{CString, OsStr, c_char, c_int},
    os::unix::ffi::OsStrExt as _,
};

use pyo3::{exceptions::PyImportError, ffi, intern, prelude::*, types::PyDict};

use super::machinery::Machinery;

unsafe extern "C" {
    /// Exported by every CPython since 2.x, but declared outside the limited API.
    fn PyMarshal_ReadObjectFromString(
        data: *const c_char,
        len: ffi::Py_ssize_t,
    ) -> *mut ffi::PyObject;
    /// Exported since 3.8; part of the limited API from 3.13.
    fn PySys_Audit(event: *const c_char, format: *const c_char, ...) -> c_int;
}

/// The code object that `bytes` start with; bytes behind it are ignored.
///
/// # Errors
/// What `marshal` raises, or an `ImportError` if the object isn't code.
pub(crate) fn unmarshal<'py>(
    machinery: &Machinery,
    py: Python<'py>,
    bytes: &[u8],
    path: &str,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the pointer and length are those of a live slice, which CPython only reads; the
    // result is a new reference or null with an exception set.
    let code = unsafe {
        Bound::from_owned_ptr_or_err(
            py,
            PyMarshal_ReadObjectFromString(bytes.as_ptr().cast(), bytes.len().cast_signed()),
        )
    }?;
    if !code.get_type().is(&machinery.code_type) {
        return Err(PyImportError::new_err(format!(
            "not a code object: `{path}`"
        )));
    }
    Ok(code)
}

/// Runs a code object in a module's namespace, as `exec(code, namespace)` does.
///
/// # Errors
/// What the code raises.
pub(crate) fn execute(code: &Bound<'_, PyAny>, namespace: &Bound<'_, PyDict>) -> PyResult<()> {
    let py = code.py();
    let builtins = intern!(py, "__builtins__");
    if !namespace.contains(builtins)? {
        // SAFETY: the call returns a borrowed reference or null with an exception set.
        let current = unsafe { Bound::from_borrowed_ptr_or_err(py, ffi::PyEval_GetBuiltins()) }?;
        namespace.set_item(builtins, current)?;
    }
    // SAFETY: `O` takes one object; `code` is alive. Nothing happens unless a hook is installed.
    if unsafe { PySys_Audit(c"exec".as_ptr(), c"O".as_ptr(), code.as_ptr()) } != 0 {
        return Err(PyErr::fetch(py));
    }
    // SAFETY: `unmarshal` or `compile` made sure that it is code, and the namespace is a dict; the
    // result is a new reference or null with an exception set.
    unsafe {
        Bound::from_owned_ptr_or_err(
            py,
            ffi::PyEval_EvalCode(code.as_ptr(), namespace.as_ptr(), namespace.as_ptr()),
        )
    }?;
    Ok(())
}

/// The code of a program, as the interpreter itself compiles it: an encoding that `source` names
/// holds. `compile()`, the function, would first make the hundred classes of `ast`, which takes a
/// third of what we add to a start.
///
/// `None` for a source that only that function refuses as it should: one with null bytes.
///
/// # Errors
/// `SyntaxError` and what else compiling raises.
pub(crate) fn compile<'py>(
    py: Python<'py>,
    source: &[u8],
    file: &OsStr,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let (Ok(source), Ok(file)) = (CString::new(source), CString::new(file.as_bytes())) else {
        return Ok(None);
    };
    // SAFETY: both are strings that end with a null byte, which CPython only reads; the result is a
    // new reference or null with an exception set.
    let code = unsafe {
        Bound::from_owned_ptr_or_err(
            py,
            ffi::Py_CompileString(source.as_ptr(), file.as_ptr(), ffi::Py_file_input),
        )
    }?;
    Ok(Some(code))
}
