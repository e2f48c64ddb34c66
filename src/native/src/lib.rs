//! `pybundle._native`: how a Python process runs from a bundle.
//!
//! | module | holds |
//! | --- | --- |
//! | [`run`] | `python -m pybundle run`: its command line, and a program run as Python would |
//! | [`start`] | join, load, install: what happens before a program's first line |
//! | [`importer`] | finder, loaders, resources: what `import` does from then on |
//! | [`collector`] | the garbage collector: postponed while imports go on, spared at the end |
//! | [`children`] | child processes: how they attach |
//! | [`program`] | the modules beside the program, read by root for all ranks |
//! | [`exit`] | the ways out of a process, MPI's end, aborts |
//! | [`site`] | the same for a program that Python itself runs |
//! | [`packed`] | the same for the packed Python, which `pybundle-python` starts |
//! | [`package`] | where this package lies |

mod children;
mod collector;
mod exit;
mod importer;
mod package;
mod packed;
mod program;
mod run;
mod site;
mod start;

/// What the Python side calls.
#[pyo3::pymodule]
mod _native {
    use std::{ffi::OsString, path::PathBuf};

    use pyo3::prelude::*;

    use crate::run::Program;

    /// Runs a program from a bundle; raises SystemExit with its status.
    #[pyfunction]
    fn run(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<()> {
        crate::run::run(py, arguments)
    }

    /// Attaches a child process to its parent's node image, or the packed Python to its own, which
    /// is named; false if there is none.
    #[pyfunction]
    #[pyo3(signature = (image=None))]
    fn attach(py: Python<'_>, image: Option<PathBuf>) -> PyResult<bool> {
        crate::children::attach(py, image)
    }

    /// Holds what `pybundle-python` has loaded, so that it can let go.
    #[pyfunction]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "what Python gives is converted"
    )]
    fn hold(image: PathBuf, job: &str, plugin: Option<PathBuf>) -> PyResult<()> {
        crate::packed::hold(&image, job, plugin)
    }

    /// Goes on with what `pybundle-python` has begun; `form` is empty where the interpreter reads
    /// its program itself.
    #[pyfunction]
    fn take_over(
        py: Python<'_>,
        words: Vec<OsString>,
        form: &str,
        value: OsString,
    ) -> PyResult<()> {
        let program = match form {
            "" => None,
            _ => Some(Program::from_form(form, value)?),
        };
        crate::packed::take_over(py, words, program)
    }

    /// Runs the program that was taken over; raises SystemExit with its status.
    #[pyfunction]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "what Python gives is converted"
    )]
    fn main(py: Python<'_>, rest: Vec<OsString>) -> PyResult<()> {
        crate::packed::main(py, &rest)
    }

    /// Starts a program that Python itself runs.
    #[pyfunction]
    fn start_site(py: Python<'_>, form: &str, value: OsString) -> PyResult<()> {
        crate::site::start(py, form, value)
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::package::note(module);
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
