//! Modules of the program itself: its folder answered from what root has sent.
//!
//! Finder and loader are importlib's own for everything that root has not sent, and for everything
//! from the first `importlib.invalidate_caches()` on.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
};

use pyo3::{
    exceptions::PyImportError,
    intern,
    prelude::*,
    types::{PyBytes, PyDict, PyList, PyString, PyTuple},
};

use super::{code, guard::guard, source::own_path, state::State};
use crate::program::{self, Content, Files, Found};

/// Finds modules in one folder of the program.
#[pyclass(
    frozen,
    subclass,
    module = "pybundle._native",
    name = "ProgramFinderMethods"
)]
pub(crate) struct ProgramFinderMethods {
    folder: Vec<u8>,
}

#[pymethods]
impl ProgramFinderMethods {
    #[new]
    #[pyo3(signature = (path, *_loaders))]
    fn new(path: &Bound<'_, PyAny>, _loaders: &Bound<'_, PyTuple>) -> PyResult<Self> {
        guard(|| {
            let state = State::get()?;
            let path: Option<OsString> = path.extract().ok();
            let known = path.filter(|path| {
                let files = state.program_files();
                files.is_some_and(|files| files.has(path.as_bytes()))
            });
            let folder = known.ok_or_else(|| PyImportError::new_err("not the program's folder"))?;
            Ok(Self {
                folder: folder.as_bytes().to_vec(),
            })
        })
    }

    /// importlib's own, with our loader of sources.
    #[pyo3(signature = (path, *_loaders))]
    fn __init__(
        slf: &Bound<'_, Self>,
        path: &Bound<'_, PyAny>,
        _loaders: &Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        guard(|| {
            let py = slf.py();
            let machinery = &State::get()?.machinery;
            let details = machinery
                .external
                .bind(py)
                .call_method0(intern!(py, "_get_supported_file_loaders"))?;
            let mut arguments = vec![slf.clone().into_any(), path.clone()];
            for detail in details.try_iter()? {
                let detail = detail?;
                let (class, suffixes): (Bound<'_, PyAny>, Bound<'_, PyAny>) = detail.extract()?;
                if class.is(&machinery.source_base) {
                    let ours = (machinery.program_loader.bind(py), suffixes);
                    arguments.push(ours.into_pyobject(py)?.into_any());
                } else {
                    arguments.push(detail);
                }
            }
            let arguments = PyTuple::new(py, arguments)?;
            let base = machinery.file_finder.bind(py);
            base.getattr(intern!(py, "__init__"))?
                .call1(arguments)
                .map(drop)
        })
    }

    /// The spec of a module, or of a portion of a namespace package.
    #[pyo3(signature = (fullname, target=None))]
    fn find_spec<'py>(
        slf: &Bound<'py, Self>,
        fullname: &Bound<'py, PyString>,
        target: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        guard(|| find(State::get()?, slf, fullname, target))
    }

    /// From now on the disk is asked.
    fn invalidate_caches(slf: &Bound<'_, Self>) -> PyResult<()> {
        guard(|| {
            let py = slf.py();
            let state = State::get()?;
            state.open(py);
            let base = state.machinery.file_finder.bind(py);
            base.call_method1(intern!(py, "invalidate_caches"), (slf,))
                .map(drop)
        })
    }
}

/// What a folder of the program has for the last part of a module's name.
pub(crate) fn find<'py>(
    state: &State,
    finder: &Bound<'py, ProgramFinderMethods>,
    fullname: &Bound<'py, PyString>,
    target: Option<&Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = fullname.py();
    let folder = &finder.get().folder;
    if let (Some(files), Ok(name)) = (state.program_files(), fullname.to_cow()) {
        let tail = name.rsplit('.').next().unwrap_or_default().as_bytes();
        match files.find(folder, tail) {
            program::Answer::Found(found) => {
                return spec(state, folder, tail, found, fullname).map(Some);
            }
            program::Answer::Absent => return Ok(None),
            program::Answer::OnDisk => {}
        }
    }
    let base = state.machinery.file_finder.bind(py);
    let spec = base.call_method1(intern!(py, "find_spec"), (finder, fullname, target))?;
    if spec.is_none() {
        return Ok(None);
    }
    if let (Some(job), Ok(origin)) = (
        &state.job,
        spec.getattr(intern!(py, "origin"))?.extract::<OsString>(),
    ) {
        job.fell_through(&origin);
    }
    Ok(Some(spec))
}

/// The spec that importlib's finder would make.
fn spec<'py>(
    state: &State,
    folder: &[u8],
    tail: &[u8],
    found: &Found,
    fullname: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = fullname.py();
    let machinery = &state.machinery;
    let own_folder = program::join(folder, tail);
    let inside = PyList::new(py, [OsStr::from_bytes(&own_folder)])?;
    let Found::Module(module) = found else {
        let spec = machinery
            .module_spec
            .bind(py)
            .call1((fullname, py.None()))?;
        spec.setattr(intern!(py, "submodule_search_locations"), inside)?;
        return Ok(spec);
    };
    let suffix: &[u8] = if module.package {
        b"/__init__.py"
    } else {
        b".py"
    };
    let file = [&own_folder, suffix].concat();
    let file = OsStr::from_bytes(&file);
    let loader = machinery.program_loader.bind(py).call1((fullname, file))?;
    let keywords = PyDict::new(py);
    keywords.set_item(intern!(py, "loader"), loader)?;
    if module.package {
        keywords.set_item(intern!(py, "submodule_search_locations"), inside)?;
    }
    let external = machinery.external.bind(py);
    external
        .getattr(intern!(py, "spec_from_file_location"))?
        .call((fullname, file), Some(&keywords))
}

/// Loads a source module of the program. Everything but code is read from the disk.
#[pyclass(
    frozen,
    subclass,
    module = "pybundle._native",
    name = "ProgramLoaderMethods"
)]
pub(crate) struct ProgramLoaderMethods;

#[pymethods]
impl ProgramLoaderMethods {
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Self
    }

    /// The module's code object.
    fn get_code<'py>(
        slf: &Bound<'py, Self>,
        fullname: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        guard(|| {
            let state = State::get()?;
            if let Some(code) = sent_code(state, slf.as_any(), fullname)? {
                return Ok(code);
            }
            let base = state.machinery.source_base.bind(slf.py());
            base.call_method1(intern!(slf.py(), "get_code"), (slf, fullname))
        })
    }

    /// Writes nothing: root does, and a file for each rank would be a storm.
    #[staticmethod]
    fn _cache_bytecode(
        _source_path: &Bound<'_, PyAny>,
        _bytecode_path: &Bound<'_, PyAny>,
        _data: &Bound<'_, PyAny>,
    ) {
    }
}

/// The code of a module that root has sent.
fn sent_code<'py>(
    state: &State,
    loader: &Bound<'py, PyAny>,
    fullname: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = loader.py();
    // A subclass may make its code in another way.
    let own = loader.get_type().is(&state.machinery.program_loader);
    let Some(files) = state.program_files().filter(|_| own) else {
        return Ok(None);
    };
    let path = own_path(loader, fullname)?;
    let file: OsString = path.extract()?;
    let code = match files.content(file.as_bytes()) {
        None => return Ok(None),
        Some(Content::Code(bytes)) => {
            let Ok(code) = code::unmarshal(&state.machinery, py, bytes, &file.to_string_lossy())
            else {
                // Damaged: importlib says what it says of such a file.
                return Ok(None);
            };
            let imp = state.machinery.imp.bind(py);
            imp.call_method1(intern!(py, "_fix_co_filename"), (&code, &path))?;
            code
        }
        Some(Content::Text(text)) => {
            let text = PyBytes::new(py, text);
            loader.call_method1(intern!(py, "source_to_code"), (text, &path))?
        }
    };
    state.count(|counters| &counters.program_modules);
    Ok(Some(code))
}

impl State {
    /// What root has sent of the program's folder, as long as it is what counts.
    fn program_files(&self) -> Option<&Files> {
        self.files.as_ref().filter(|_| !self.is_open())
    }

    /// Has root seen that no metadata of distributions lies in this folder of the program?
    pub(crate) fn is_bare(&self, folder: &OsStr) -> bool {
        let Some(files) = self.program_files() else {
            return false;
        };
        if !folder.is_empty() {
            return files.is_bare(folder.as_bytes());
        }
        // `sys.path[0]` of a command.
        std::env::current_dir().is_ok_and(|folder| files.is_bare(folder.as_os_str().as_bytes()))
    }

    /// Answers for the folders of the program from now on.
    pub(crate) fn serve_program(&self, py: Python<'_>) -> PyResult<()> {
        if self.files.is_some() {
            let hooks = self.machinery.sys.bind(py).getattr("path_hooks")?;
            // Behind the bundle's: what it answers for is its own.
            hooks.call_method1("insert", (1, &self.machinery.program_finder))?;
        }
        Ok(())
    }
}
