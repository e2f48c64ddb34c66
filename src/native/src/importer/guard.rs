//! Errors at the border to Python: a panic of ours must look like a failed import.
//!
//! `except ImportError` is how packages fall back from an optional module; `PanicException` is no
//! `Exception` at all and would end them.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use pyo3::{exceptions::PyImportError, prelude::*};

/// Runs `body`; a panic in it becomes an `ImportError`.
pub(crate) fn guard<T>(body: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        Err(PyImportError::new_err(format!(
            "internal error in pybundle: {}",
            text(panic.as_ref())
        )))
    })
}

fn text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic without a message")
}

/// An error of the node image, as the `ImportError` of a module.
pub(crate) fn import_error(
    py: Python<'_>,
    error: &dyn std::fmt::Display,
    name: &str,
    path: &str,
) -> PyErr {
    let raised = PyImportError::new_err(format!("{name}: {error}"));
    let value = raised.value(py);
    // The attributes that `ImportError` carries; a failure to set them changes nothing.
    let _ = value.setattr("name", name);
    let _ = value.setattr("path", path);
    raised
}
