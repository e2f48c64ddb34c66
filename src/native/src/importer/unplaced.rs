//! Files that importlib reaches by path, without asking a loader: placed before it looks.
//!
//! Folders of namespace packages have no loader of ours, and distributions list their files by
//! path. The functions of importlib that do so are given a hand once somebody needs them, never at
//! start.

use std::{ffi::OsString, os::unix::ffi::OsStrExt as _, sync::atomic::Ordering};

use pybundle_bundle::record::{ENTRY_LAZY, Node};
use pyo3::{
    intern,
    prelude::*,
    types::{PyCFunction, PyDict, PyString, PyTuple},
};

use super::{
    guard::{guard, import_error},
    lookup::Place,
    state::State,
};

const FUNCTIONS: &str = include_str!("unplaced.py");

impl State {
    /// Somebody has found a portion of a namespace package: what lies in it beside packages has no
    /// module whose import would place it.
    ///
    /// # Errors
    /// An `ImportError` if a file can't be placed.
    pub(crate) fn place_portion(&self, py: Python<'_>, name: &str, inside: &[u8]) -> PyResult<()> {
        if !self.namespaces.swap(true, Ordering::Relaxed) {
            self.teach_namespaces(py)?;
        }
        let Place::Folder(row) = self.resolve(inside) else {
            return Ok(());
        };
        py.detach(|| self.place_loose(row)).map_err(|error| {
            let path = self.tree_path(inside);
            import_error(py, &error, name, &path.to_string_lossy())
        })
    }

    /// Places the files below a folder that belong to no package, and makes its folders, each of
    /// which another distribution may fill later.
    fn place_loose(&self, row: u32) -> pybundle_load::Result<()> {
        let index = self.image.index();
        let mut folders = vec![row];
        let mut made = Vec::new();
        while let Some(folder) = folders.pop() {
            made.push(folder);
            for node in index
                .folder(folder)
                .iter()
                .flat_map(|folder| index.children(folder))
            {
                match node {
                    Node::Entry(row) => {
                        let entry = index.entry(row);
                        if entry.is_some_and(|entry| entry.flags & ENTRY_LAZY == 0) {
                            self.image.place_entry(row)?;
                        }
                    }
                    Node::Folder(row) if self.own_init(row).is_none() => folders.push(row),
                    Node::Folder(row) => made.push(row),
                }
            }
        }
        self.image.make_folders(made)
    }

    fn teach_namespaces(&self, py: Python<'_>) -> PyResult<()> {
        let external = self.machinery.external.bind(py);
        // Its name up to Python 3.10 begins with an underscore; in 3.9 it has no reader.
        let loader = external
            .getattr("NamespaceLoader")
            .or_else(|_| external.getattr("_NamespaceLoader"))?;
        if !loader.hasattr("get_resource_reader")? {
            return Ok(());
        }
        function(py, "namespace")?.call1((loader, place_all(py)?))?;
        Ok(())
    }
}

/// Gives `importlib.metadata`, or its backport by that name, a hand, if it is there.
pub(crate) fn teach_metadata(state: &State, name: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = name.py();
    let modules = state
        .machinery
        .sys
        .bind(py)
        .getattr(intern!(py, "modules"))?;
    let Ok(module) = modules.get_item(name) else {
        return Ok(());
    };
    let known = |path: OsString, state: &State, _: Python<'_>| {
        let Some((place, inside)) = state.place_of(path.as_bytes()) else {
            return Ok(None);
        };
        // What lies in a zip file is known to that file alone.
        if place == Place::Absent && state.file_above(&inside).is_some() {
            return Ok(None);
        }
        Ok(Some(place != Place::Absent))
    };
    let place = |path: OsString, state: &State, py: Python<'_>| {
        if let Some((Place::File(row), _)) = state.place_of(path.as_bytes()) {
            state.place_file(py, row)?;
        }
        Ok(None)
    };
    let known = closure(py, known)?;
    function(py, "metadata")?.call1((&module, known, closure(py, place)?))?;
    if state.files.is_some() {
        let bare = |path: OsString, state: &State, _: Python<'_>| Ok(Some(state.is_bare(&path)));
        function(py, "program")?.call1((module, closure(py, bare)?))?;
    }
    Ok(())
}

/// Places all that lies below a folder.
fn place_all(py: Python<'_>) -> PyResult<Bound<'_, PyCFunction>> {
    closure(py, |path: OsString, state: &State, py: Python<'_>| {
        if let Some((Place::Folder(row), _)) = state.place_of(path.as_bytes()) {
            state.place_files_below(py, row)?;
        }
        Ok(None)
    })
}

/// A function of one path; what is no path has no answer.
fn closure(
    py: Python<'_>,
    answer: impl Fn(OsString, &State, Python<'_>) -> PyResult<Option<bool>> + Send + Sync + 'static,
) -> PyResult<Bound<'_, PyCFunction>> {
    PyCFunction::new_closure(
        py,
        None,
        None,
        move |arguments: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
            guard(|| match arguments.get_item(0)?.extract::<OsString>() {
                Ok(path) => answer(path, State::get()?, arguments.py()),
                Err(_) => Ok(None),
            })
        },
    )
}

/// One of our functions in Python.
fn function<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let namespace = PyDict::new(py);
    let builtins = py.import(intern!(py, "builtins"))?;
    let code = builtins.call_method1(
        intern!(py, "compile"),
        (FUNCTIONS, PyString::new(py, "<pybundle>"), "exec"),
    )?;
    builtins.call_method1(intern!(py, "exec"), (code, &namespace))?;
    namespace.as_any().get_item(name)
}
