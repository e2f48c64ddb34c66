//! Modules of the standard library that must learn of our classes when they come.

use pyo3::{intern, prelude::*};

use super::{folder::FolderMethods, state::State};

/// Called after a module of the bundle has run.
pub(crate) fn after(state: &State, name: &Bound<'_, PyAny>) -> PyResult<()> {
    if name.eq(intern!(name.py(), "pkgutil"))? {
        register(state, name.py())?;
    }
    Ok(())
}

/// Tells `pkgutil`, if it is there, to ask our finder for the modules of a folder: it treats every
/// `FileFinder` alike and would list the disk.
pub(crate) fn register(state: &State, py: Python<'_>) -> PyResult<()> {
    let modules = state.machinery.sys.bind(py).getattr("modules")?;
    let Ok(pkgutil) = modules.get_item("pkgutil") else {
        return Ok(());
    };
    let iterate = py.get_type::<FolderMethods>().getattr("iter_modules")?;
    pkgutil
        .getattr("iter_importer_modules")?
        .call_method1("register", (&state.machinery.folder, iterate))?;
    Ok(())
}
