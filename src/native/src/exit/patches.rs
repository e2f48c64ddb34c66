//! Stand-ins for the functions of `os` that end a process without its exit handlers.
//!
//! With MPI initialised, a rank that leaves this way takes the job with it: MPICH kills the other
//! ranks and `mpiexec` returns 0, Open MPI returns 1. So MPI is finalised first, or the job aborted
//! if the status says that the rank failed. Children forked from a rank leave as they always did.

use std::{
    ffi::OsStr,
    fs::File,
    io::Read,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};
use pyo3::{
    exceptions::PyRuntimeError,
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyTuple},
};

use super::{Share, end_mpi, hooks, leave, leave_with, take_leave, this_process};

/// The functions that stood there before, by name.
static ORIGINALS: PyOnceLock<Py<PyDict>> = PyOnceLock::new();

/// Replaces `os._exit`, `os.execv` and `os.execve`, on which all others of their kind stand.
pub(super) fn install(py: Python<'_>) -> PyResult<()> {
    let (os, posix) = (py.import("os")?, py.import("posix")?);
    let originals = ORIGINALS
        .get_or_init(py, || PyDict::new(py).unbind())
        .bind(py);
    let functions = [
        wrap_pyfunction!(_exit, py)?,
        wrap_pyfunction!(execv, py)?,
        wrap_pyfunction!(execve, py)?,
    ];
    for function in functions {
        let name = function.getattr("__name__")?.extract::<String>()?;
        originals.set_item(&name, posix.getattr(name.as_str())?)?;
        os.setattr(name.as_str(), &function)?;
        posix.setattr(name.as_str(), &function)?;
    }
    Ok(())
}

/// Calls the function of `posix` that stood there before.
fn original<'py>(
    py: Python<'py>,
    name: &str,
    arguments: Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let originals = ORIGINALS.get(py).map(|originals| originals.bind(py));
    let function = originals.and_then(|originals| originals.get_item(name).transpose());
    match function {
        Some(function) => function?.call1(arguments),
        None => Err(PyRuntimeError::new_err("pybundle is not installed")),
    }
}

/// Exit to the system with specified status, without normal exit processing.
#[pyfunction]
#[pyo3(signature = (status), text_signature = "(status)")]
fn _exit(py: Python<'_>, status: i32) {
    if let Some(process) = this_process() {
        py.detach(|| {
            leave_with(process, status & 0xff);
            end_mpi(process, status & 0xff);
            take_leave(process, process.wrapper);
        });
    }
    hooks::end_at_once(status)
}

/// Execute an executable path with arguments, replacing current process.
#[pyfunction]
#[pyo3(signature = (path, argv, /))]
fn execv<'py>(
    py: Python<'py>,
    path: Bound<'py, PyAny>,
    argv: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    give_way(py, &path);
    original(py, "execv", (path, argv).into_pyobject(py)?)
}

/// Execute an executable path with arguments, replacing current process.
#[pyfunction]
#[pyo3(signature = (path, argv, env))]
fn execve<'py>(
    py: Python<'py>,
    path: Bound<'py, PyAny>,
    argv: Bound<'py, PyAny>,
    env: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    give_way(py, &path);
    original(py, "execve", (path, argv, env).into_pyobject(py)?)
}

/// Leaves the job if `path` can take this process's place; a search through `PATH` tries many
/// that can't.
fn give_way(py: Python<'_>, path: &Bound<'_, PyAny>) {
    let Some(process) = this_process() else {
        return;
    };
    let Some(path) = executable(py, path) else {
        return;
    };
    // A Python that comes next attaches to the image, so that stays.
    let python = path
        .file_name()
        .is_some_and(|name| name.as_bytes().starts_with(b"python"));
    py.detach(|| {
        leave(process, if python { Share::Abandon } else { Share::Leave });
        end_mpi(process, 0);
        take_leave(process, process.wrapper.or(Some(std::process::id())));
    });
}

/// The path, if it names a file that this process may execute. An open descriptor does too.
fn executable(py: Python<'_>, path: &Bound<'_, PyAny>) -> Option<PathBuf> {
    let path = if let Ok(descriptor) = path.extract::<i32>() {
        format!("/proc/self/fd/{descriptor}").into()
    } else {
        let encoded = py
            .import("os")
            .ok()?
            .call_method1("fsencode", (path,))
            .ok()?;
        PathBuf::from(OsStr::from_bytes(encoded.extract::<&[u8]>().ok()?))
    };
    (access(&path, AccessFlags::X_OK).is_ok() && has_format(&path)).then_some(path)
}

/// Whether the system would take the file: a binary or a script with an interpreter line.
fn has_format(path: &Path) -> bool {
    let mut start = [0; 4];
    // A file that may be executed but not read: the system may well take it.
    let Ok(mut file) = File::open(path) else {
        return path.is_file();
    };
    match file.read(&mut start) {
        Ok(read) => start[..read].starts_with(b"#!") || start == *b"\x7fELF",
        Err(_) => false,
    }
}
