//! Files that somebody asks a loader for: placed before they are read.

use std::os::unix::ffi::OsStrExt as _;

use pybundle_bundle::{
    name,
    record::{Folder, Node},
};
use pyo3::{exceptions::PyOSError, intern, prelude::*};

use super::{lookup::Place, state::State};

impl State {
    /// The path to read instead of `path`: the tree's, with the file placed, if the bundle answers
    /// for it; otherwise `path` itself.
    ///
    /// # Errors
    /// An `OSError` if the file can't be placed.
    pub(crate) fn placed_path<'py>(&self, path: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let Ok(text) = path.extract::<std::ffi::OsString>() else {
            return Ok(path.clone());
        };
        let Some((place, inside)) = self.place_of(text.as_bytes()) else {
            return Ok(path.clone());
        };
        let py = path.py();
        if let Place::File(row) = place {
            self.place_file(py, row)?;
        }
        Ok(self.tree_string(py, &inside)?.into_any())
    }

    /// Places one file.
    ///
    /// # Errors
    /// An `OSError` with the image's words.
    pub(crate) fn place_file(&self, py: Python<'_>, row: u32) -> PyResult<()> {
        py.detach(|| self.image.place_entry(row))
            .map(drop)
            .map_err(|error| os_error(&error))
    }

    /// Places everything below the folder of a loader's file: a resource may be a source, a header
    /// or a test as well, and readers go through ordinary paths.
    ///
    /// # Errors
    /// An `OSError` if a file can't be placed.
    pub(crate) fn place_folder_of(&self, loader: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = loader.py();
        let path: std::ffi::OsString = loader.getattr(intern!(py, "path"))?.extract()?;
        let Some(claimed) = self.claims.claim(path.as_bytes()) else {
            return Ok(());
        };
        let Some(row) = self
            .image
            .index()
            .find_folder(name::split(&claimed.inside).0)
        else {
            return Ok(());
        };
        self.place_files_below(py, row)
    }

    /// Places every file below a folder.
    ///
    /// # Errors
    /// An `OSError` if one can't be placed.
    pub(crate) fn place_files_below(&self, py: Python<'_>, row: u32) -> PyResult<()> {
        py.detach(|| self.place_below(row))
            .map_err(|error| os_error(&error))
    }

    fn place_below(&self, row: u32) -> pybundle_load::Result<()> {
        let index = self.image.index();
        let mut folders: Vec<Folder> = index.folder(row).into_iter().collect();
        while let Some(folder) = folders.pop() {
            for node in index.children(&folder) {
                match node {
                    Node::Entry(row) => drop(self.image.place_entry(row)?),
                    Node::Folder(row) => folders.extend(index.folder(row)),
                }
            }
        }
        Ok(())
    }
}

fn os_error(error: &pybundle_load::Error) -> PyErr {
    match error.errno() {
        Some(number) => PyOSError::new_err((number, error.to_string())),
        None => PyOSError::new_err(error.to_string()),
    }
}
