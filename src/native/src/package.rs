//! Where this package lies.

use std::{path::PathBuf, sync::OnceLock};

use pyo3::prelude::*;

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Notes the folder of this extension module, from the interpreter that loaded it.
pub(crate) fn note(module: &Bound<'_, PyModule>) {
    let file = module
        .getattr("__file__")
        .and_then(|file| file.extract::<PathBuf>());
    if let Some(folder) = file
        .ok()
        .and_then(|file| Some(file.parent()?.to_path_buf()))
    {
        FOLDER.get_or_init(|| folder);
    }
}

/// The folder that holds this extension module, the plug-ins and the Python files.
pub(crate) fn folder() -> Option<PathBuf> {
    FOLDER.get().cloned()
}
