//! `pybundle._native`: how a Python process runs from a bundle.
//!
//! | module | holds |
//! | --- | --- |
//! | [`run`] | `python -m pybundle run`: its command line, and a program run as Python would |
//! | [`start`] | join, load, install: what happens before a program's first line |
//! | [`importer`] | finder, loaders, resources: what `import` does from then on |
//! | [`children`] | child processes: how they attach |
//! | [`exit`] | the ways out of a process, MPI's end, aborts |
//! | [`site`] | the same for a program that Python itself runs |
//! | [`launch`], [`package`] | which launch this process belongs to; where this package lies |

mod children;
mod exit;
mod importer;
mod launch;
mod package;
mod run;
mod site;
mod start;

/// What the Python side calls.
#[pyo3::pymodule]
mod _native {
    use std::ffi::OsString;

    use pyo3::prelude::*;

    /// Runs a program from a bundle; raises SystemExit with its status.
    #[pyfunction]
    fn run(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<()> {
        crate::run::run(py, arguments)
    }

    /// Attaches a child process to its parent's node image; false if it has none.
    #[pyfunction]
    fn attach(py: Python<'_>) -> PyResult<bool> {
        crate::children::attach(py)
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
