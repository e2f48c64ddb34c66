//! Programs that Python itself runs: `PYBUNDLE=FILE mpiexec python app.py` in an environment with
//! site integration.
//!
//! `site` calls us when `sys.path` is complete and before anything of the program. Python knows
//! nothing of the job, so the ways out are watched more closely than for `run`: an uncaught
//! exception is seen by a hook in front of `sys.excepthook`, any other failure by its status.

mod first;

use std::ffi::OsString;

use pybundle_load::{Settings, environment::MpiMode, launch::Launch, transport::Launcher};
use pyo3::{exceptions::PyKeyboardInterrupt, prelude::*, sync::PyOnceLock};

use crate::{
    children, exit, importer,
    run::Program,
    start::{self, Runner},
};
use first::Place;

/// `sys.excepthook` before us.
static HOOK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Starts the program that Python is about to run: a `script`, `module`, `command` or `stdin`, and
/// its name or text.
///
/// # Errors
/// What a signal handler raised meanwhile.
pub(crate) fn start(py: Python<'_>, form: &str, value: OsString) -> PyResult<()> {
    if exit::is_watched() {
        return Ok(());
    }
    let settings = match Settings::from_environment() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("error: {error}");
            exit::fail_at_once(1)
        }
    };
    if settings.disabled || settings.bundle.as_os_str().is_empty() {
        return Ok(());
    }
    // A child of a rank, whatever it runs, never joins.
    if children::attach(py, None)? || Launch::has_ancestor() {
        return Ok(());
    }
    let program = Program::from_form(form, value)?;
    let joins = settings.mpi != Some(MpiMode::Off) && Launcher::detect().is_some();
    let place = if joins {
        Place::take(&settings)
    } else {
        Place::Only
    };
    if let Place::Later { image, says_so } = &place {
        let attached = match image {
            Some(image) => children::attach_to(py, image, &settings)?,
            None => false,
        };
        if *says_so {
            eprintln!(
                "pybundle: an earlier Python of this rank has joined its job; this one {}",
                if attached {
                    "shares its node image"
                } else {
                    "runs from the environment itself"
                }
            );
        }
        return Ok(());
    }
    let wrapper = match &place {
        Place::First(marker) => Some(marker.wrapper),
        _ => None,
    };
    match start::start(py, &settings, &program, Runner::Python { wrapper }) {
        Ok(started) => {
            if let (Place::First(marker), Some(image)) = (&place, started.image) {
                marker.write(&image);
            }
            if joins { hook(py) } else { Ok(()) }
        }
        Err(failure) => match failure.signal {
            Some(signal) => Err(signal),
            None => exit::fail_at_once(1),
        },
    }
}

/// Puts our hook in front of `sys.excepthook`.
fn hook(py: Python<'_>) -> PyResult<()> {
    let sys = py.import("sys")?;
    let previous = sys.getattr("excepthook")?.unbind();
    if HOOK.set(py, previous).is_ok() {
        sys.setattr("excepthook", wrap_pyfunction!(excepthook, py)?)?;
    }
    Ok(())
}

/// Handle an exception by displaying it with a traceback on sys.stderr.
#[pyfunction]
#[pyo3(signature = (exctype, value, traceback, /))]
fn excepthook(
    py: Python<'_>,
    exctype: Bound<'_, PyAny>,
    value: Bound<'_, PyAny>,
    traceback: Bound<'_, PyAny>,
) -> PyResult<()> {
    let error = PyErr::from_value(value.clone());
    importer::place_sources(py, &error);
    let printed = match HOOK.get(py) {
        Some(hook) => hook.call1(py, (exctype, value, traceback)).map(drop),
        None => Ok(()),
    };
    let interrupted = error.is_instance_of::<PyKeyboardInterrupt>(py);
    exit::failing(py, if interrupted { exit::INTERRUPTED } else { 1 });
    printed
}
