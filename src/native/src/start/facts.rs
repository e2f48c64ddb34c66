//! What only this side knows of a run, for the receipt.

use std::ffi::OsString;

use pybundle_load::{Facts, environment::MpiMode};
use pyo3::prelude::*;

/// The facts of this process.
pub(super) fn of(py: Python<'_>, mode: MpiMode) -> PyResult<Facts> {
    let sys = py.import("sys")?;
    // Since 3.10.
    let program = match sys.getattr_opt("orig_argv")? {
        Some(arguments) => arguments,
        None => sys.getattr("argv")?,
    };
    let version = py.version_info();
    Ok(Facts {
        mode: mode.name().to_owned(),
        python: format!("{}.{}.{}", version.major, version.minor, version.patch),
        program: program
            .extract::<Vec<OsString>>()?
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
        ..Facts::default()
    })
}
