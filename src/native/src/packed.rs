//! Programs of the packed Python: `pybundle-python` has loaded the bundle and started libpython.
//!
//! Before the interpreter imports `site`, [`hold`] takes the image and the place in the job, which
//! `pybundle-python` then gives up, and [`take_over`] goes on, so that all that is imported from then
//! on is served. [`main`] is called when the interpreter is ready, in place of a program.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use pybundle_load::{Image, Job, Settings};
use pyo3::{exceptions::PyRuntimeError, prelude::*};

use crate::{
    exit,
    run::{Program, program},
    start::{self, Handed, Runner, Source},
};

/// What is held, until it is taken over.
static HELD: Mutex<Option<Handed>> = Mutex::new(None);

/// The program, until it runs.
static PROGRAM: Mutex<Option<(Program, Option<Source>)>> = Mutex::new(None);

/// Holds the node image at `image`, this rank's place in its job, as [`Job::variable`] gives it, and
/// the plug-in that has started MPI.
///
/// # Errors
/// `RuntimeError` if one of them is gone.
pub(crate) fn hold(image: &Path, job: &str, plugin: Option<PathBuf>) -> PyResult<()> {
    let failed = |error: pybundle_load::Error| PyRuntimeError::new_err(error.to_string());
    let image = Arc::new(Image::attach(image).map_err(failed)?);
    let job = Job::resume(&image, job).map_err(failed)?;
    image.set_job(Arc::clone(&job));
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    *held = Some(Handed { image, job, plugin });
    Ok(())
}

/// Takes over what was done before there was an interpreter. `words` are the command line as
/// Python would have seen it.
///
/// # Errors
/// What a signal handler raised meanwhile; `RuntimeError` if nothing is held.
pub(crate) fn take_over(
    py: Python<'_>,
    words: Vec<OsString>,
    program: Option<Program>,
) -> PyResult<()> {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner).take();
    let handed = held.ok_or_else(|| PyRuntimeError::new_err("no image is held"))?;
    let settings = match Settings::from_environment() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("error: {error}");
            exit::fail_at_once(1)
        }
    };
    let sys = py.import("sys")?;
    // Since 3.10; it holds how we had to start the interpreter.
    if sys.hasattr("orig_argv")? {
        sys.setattr("orig_argv", words)?;
    }
    let (runner, told) = match &program {
        Some(program) => (Runner::Us, program),
        // The interpreter reads its standard input by itself.
        None => (Runner::Python { wrapper: None }, &Program::Stdin),
    };
    match start::go_on(py, &settings, told, runner, handed) {
        Ok(started) => {
            let mut place = PROGRAM.lock().unwrap_or_else(PoisonError::into_inner);
            *place = program.map(|program| (program, started.source));
            Ok(())
        }
        Err(failure) => match failure.signal {
            Some(signal) => Err(signal),
            None => exit::fail_at_once(1),
        },
    }
}

/// Runs the program that [`take_over`] was told of; `rest` is its `sys.argv[1:]`.
///
/// # Errors
/// `SystemExit` with the status for this process, if that is not 0.
pub(crate) fn main(py: Python<'_>, rest: &[OsString]) -> PyResult<()> {
    let taken = PROGRAM
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let (form, source) =
        taken.ok_or_else(|| PyRuntimeError::new_err("no program was taken over"))?;
    program::drop_first_path(py)?;
    let outcome = program::run(py, &form, rest, source);
    exit::finish(py, outcome)
}
