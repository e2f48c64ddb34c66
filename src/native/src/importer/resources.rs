//! Files that somebody asks a loader for: placed before they are read.

use std::os::unix::ffi::OsStrExt as _;

use pybundle_bundle::{
    limits, name,
    record::{Folder, Module, Node, some},
};
use pyo3::{exceptions::PyOSError, intern, prelude::*};

use super::{claims, guard::import_error, lookup::Place, state::State};

/// A distribution that was found but not imported is placed up to this many bytes: programs ask
/// for large ones only to know whether they could import them, and a node's memory is dear.
const FOUND_BYTES: u64 = 64 << 20;

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

    /// Places what belongs to a module that was found: who asks for its spec may go on to the files
    /// beside it without importing it. Of a large distribution it is the module's own file.
    ///
    /// # Errors
    /// An `ImportError` if something can't be placed.
    pub(crate) fn place_found(&self, py: Python<'_>, module: &Module) -> PyResult<()> {
        let Some(group) = some(module.group).filter(|&group| !self.image.is_placed(group)) else {
            return Ok(());
        };
        py.detach(|| self.place_group_or(group, module.file))
            .map_err(|error| {
                let path = self.image.index().path(Node::Entry(module.file));
                let path = String::from_utf8_lossy(path.unwrap_or_default());
                import_error(py, &error, self.name_of(module), &path)
            })
    }

    /// Makes the folders at the top of the environment, which programs ask for by name
    /// (`include`, `share`) and which may hold nothing that is placed as yet.
    ///
    /// # Errors
    /// An `OSError` if one can't be made.
    pub(crate) fn make_top_folders(&self, py: Python<'_>) -> PyResult<()> {
        let index = self.image.index();
        // What the environment needs from elsewhere lies below a folder that it doesn't have.
        let ours = |path| claims::below(path, limits::RESERVED_FOLDER.as_bytes()).is_some();
        let top = index.folder(0);
        let nodes = top.iter().flat_map(|top| index.children(top));
        let rows: Vec<u32> = nodes
            .filter_map(|node| match node {
                Node::Folder(row) => index.path(node).filter(|path| !ours(path)).map(|_| row),
                Node::Entry(_) => None,
            })
            .collect();
        py.detach(|| self.image.make_folders(rows))
            .map_err(|error| os_error(&error))
    }

    fn place_group_or(&self, group: u32, file: u32) -> pybundle_load::Result<()> {
        if self.image.bytes_to_place(group)? <= FOUND_BYTES {
            self.image.place(group)
        } else {
            self.image.place_entry(file).map(drop)
        }
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
