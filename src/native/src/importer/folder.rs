//! The finder for one folder of `sys.path` or of a `__path__`: what the path hook makes.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
};

use pyo3::{
    exceptions::PyImportError,
    intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyList, PyString, PyTuple},
};

use super::{
    claims,
    guard::guard,
    lookup::{Found, Place},
    state::State,
};

/// Finds modules in one folder that the bundle answers for, without looking at the disk.
#[pyclass(frozen, subclass, module = "pybundle._native", name = "FolderMethods")]
pub(crate) struct FolderMethods {
    /// The folder's row in the index; `None` if there is nothing in it.
    pub(crate) row: Option<u32>,
    /// Its path inside the bundle.
    inside: Vec<u8>,
    /// importlib's finders for the same folder on the disk, once the bundle is open.
    disk: PyOnceLock<Vec<Py<PyAny>>>,
}

/// What a folder has for a name.
pub(crate) enum Answer<'py> {
    /// A module.
    Module(Bound<'py, PyAny>),
    /// A portion of a namespace package: a spec without a loader.
    Portion(Bound<'py, PyAny>),
}

#[pymethods]
impl FolderMethods {
    #[new]
    #[pyo3(signature = (path, *_loaders))]
    fn new(path: &Bound<'_, PyAny>, _loaders: &Bound<'_, PyTuple>) -> PyResult<Self> {
        guard(|| {
            let refuse = || PyImportError::new_err("not a folder of the bundle");
            let state = State::get()?;
            let text: OsString = path.extract().map_err(|_| refuse())?;
            let (place, inside) = state.place_of(text.as_bytes()).ok_or_else(refuse)?;
            let row = match place {
                Place::Folder(row) => Some(row),
                Place::Empty => None,
                Place::File(_) | Place::Absent => {
                    if let Some(file) = state.file_above(&inside) {
                        // A zip file, or a folder in one: placed, for `zipimport` to open.
                        state.place_file(path.py(), file)?;
                        return Err(refuse());
                    }
                    None
                }
            };
            Ok(Self {
                row,
                inside,
                disk: PyOnceLock::new(),
            })
        })
    }

    #[pyo3(signature = (path, *_loaders))]
    fn __init__(
        slf: &Bound<'_, Self>,
        path: &Bound<'_, PyAny>,
        _loaders: &Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        slf.setattr(intern!(slf.py(), "path"), path)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let path = slf.getattr(intern!(slf.py(), "path"))?;
        Ok(format!("FolderFinder({})", path.repr()?))
    }

    /// The spec of a module, or of a portion of a namespace package.
    #[pyo3(signature = (fullname, target=None))]
    fn find_spec<'py>(
        slf: &Bound<'py, Self>,
        fullname: &Bound<'py, PyString>,
        target: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        guard(|| {
            let state = State::get()?;
            let spec = match slf.get().find(state, fullname, target)? {
                Some(Answer::Module(spec)) => spec,
                Some(Answer::Portion(spec)) => {
                    slf.get().place_portion(state, fullname)?;
                    return Ok(Some(spec));
                }
                None => return Ok(None),
            };
            // Asked by name, not by our own finder: by a hook that rewrites sources, say, which will
            // read the file and run it without our loader.
            let origin = spec.getattr(intern!(slf.py(), "origin"))?;
            state.placed_path(&origin)?;
            let origin: String = origin.extract()?;
            if let Some((_, module)) = state.module_at(&origin) {
                state.place_group(slf.py(), &module, &origin)?;
            }
            Ok(Some(spec))
        })
    }

    /// Pairs of name and is-it-a-package, for `pkgutil`.
    #[pyo3(signature = (prefix=None))]
    fn iter_modules<'py>(
        slf: &Bound<'py, Self>,
        prefix: Option<&str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        guard(|| {
            let state = State::get()?;
            let suffixes = state.suffixes(slf.py())?;
            let modules = match slf.get().row {
                Some(row) => state.modules_in(row, &suffixes),
                None => Vec::new(),
            };
            let prefix = prefix.unwrap_or("");
            let pairs = modules
                .into_iter()
                .map(|(name, package)| (format!("{prefix}{name}"), package));
            Ok(PyList::new(slf.py(), pairs.collect::<Vec<_>>())?
                .try_iter()?
                .into_any())
        })
    }

    /// From now on the disk is searched for names that the bundle doesn't have.
    fn invalidate_caches(&self, py: Python<'_>) -> PyResult<()> {
        guard(|| {
            State::get()?.open(py);
            for finder in self.disk.get(py).into_iter().flatten() {
                finder.call_method0(py, intern!(py, "invalidate_caches"))?;
            }
            Ok(())
        })
    }
}

impl FolderMethods {
    /// Looks up the last part of a module's name.
    pub(crate) fn find<'py>(
        &self,
        state: &State,
        fullname: &Bound<'py, PyString>,
        target: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Answer<'py>>> {
        // A name with unpaired surrogates is no file's.
        let Ok(name) = fullname.to_cow() else {
            return Ok(None);
        };
        let tail = name.rsplit('.').next().unwrap_or_default();
        let found = self.row.and_then(|row| state.find_in(row, tail.as_bytes()));
        match found {
            Some(Found::Module(_, module)) => {
                state.place_found(fullname.py(), &module)?;
                Ok(state.module_spec(fullname, &module)?.map(Answer::Module))
            }
            Some(Found::Portion(inside)) => Ok(Some(Answer::Portion(
                state.portion_spec(fullname, &inside)?,
            ))),
            None if state.is_open() || state.is_left_out(&self.inside, tail) => {
                self.find_on_disk(state, fullname, target)
            }
            None => Ok(None),
        }
    }

    fn place_portion(&self, state: &State, fullname: &Bound<'_, PyString>) -> PyResult<()> {
        let name = fullname.to_cow()?;
        let tail = name.rsplit('.').next().unwrap_or_default();
        let inside = claims::join(&self.inside, tail.as_bytes());
        state.place_portion(fullname.py(), tail, &inside)
    }

    fn find_on_disk<'py>(
        &self,
        state: &State,
        fullname: &Bound<'py, PyString>,
        target: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Answer<'py>>> {
        let py = fullname.py();
        let finders = self
            .disk
            .get_or_try_init(py, || self.disk_finders(py, state))?;
        for finder in finders {
            let spec = finder
                .bind(py)
                .call_method1(intern!(py, "find_spec"), (fullname, target))?;
            if spec.is_none() {
                continue;
            }
            if spec.getattr(intern!(py, "loader"))?.is_none() {
                return Ok(Some(Answer::Portion(spec)));
            }
            if let (Some(job), Ok(origin)) = (
                &state.job,
                spec.getattr(intern!(py, "origin"))?.extract::<String>(),
            ) {
                job.fell_through(&origin);
            }
            return Ok(Some(Answer::Module(spec)));
        }
        Ok(None)
    }

    /// importlib's finders for the original folder and for the tree's.
    fn disk_finders(&self, py: Python<'_>, state: &State) -> PyResult<Vec<Py<PyAny>>> {
        let machinery = &state.machinery;
        let details = machinery
            .external
            .bind(py)
            .call_method0(intern!(py, "_get_supported_file_loaders"))?;
        let mut finders = Vec::new();
        let mut add = |path: Bound<'_, PyAny>| -> PyResult<()> {
            let mut arguments = vec![path];
            for detail in details.try_iter()? {
                arguments.push(detail?);
            }
            let arguments = PyTuple::new(py, arguments)?;
            finders.push(machinery.file_finder.bind(py).call1(arguments)?.unbind());
            Ok(())
        };
        if let Some((path, rest)) = state.originals(&self.inside).next() {
            let path = claims::join(path.as_bytes(), rest);
            add(OsStr::from_bytes(&path).into_pyobject(py)?.into_any())?;
        }
        add(state.tree_string(py, &self.inside)?.into_any())?;
        Ok(finders)
    }
}
