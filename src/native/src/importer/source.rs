//! The loader of source modules: code from the node image, everything else from the tree.

use std::{ffi::OsString, os::unix::ffi::OsStrExt as _};

use pybundle_bundle::{
    limits::NONE,
    record::{Module, ModuleKind},
};
use pyo3::{
    exceptions::PyImportError,
    intern,
    prelude::*,
    types::{PyDict, PyString, PyTuple},
};

use super::{
    code,
    guard::{guard, import_error},
    hooks,
    state::State,
};

/// Loads a source module of the bundle: its code lies decoded in the node image.
///
/// The source itself is an ordinary file of the tree, placed when something asks for it.
#[pyclass(frozen, subclass, module = "pybundle._native", name = "SourceMethods")]
pub(crate) struct SourceMethods;

#[pymethods]
impl SourceMethods {
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Self
    }

    fn __init__(
        slf: &Bound<'_, Self>,
        fullname: &Bound<'_, PyAny>,
        path: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        init(slf.as_any(), fullname, path)
    }

    /// Leaves making the module to importlib.
    #[staticmethod]
    fn create_module(_spec: &Bound<'_, PyAny>) {}

    /// Runs the module's code in its namespace.
    fn exec_module(slf: &Bound<'_, Self>, module: &Bound<'_, PyAny>) -> PyResult<()> {
        guard(|| exec_module(slf.as_any(), module))
    }

    /// The module's code object.
    fn get_code<'py>(
        slf: &Bound<'py, Self>,
        fullname: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        guard(|| get_code(slf.as_any(), fullname))
    }

    /// The bytes of a file, placed first if it is one of the bundle's.
    fn get_data<'py>(
        slf: &Bound<'py, Self>,
        path: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        guard(|| {
            let state = State::get()?;
            let base = state.machinery.source_base.bind(slf.py());
            base.call_method1("get_data", (slf, state.placed_path(path)?))
        })
    }

    /// Size and time of a source file.
    fn path_stats<'py>(
        slf: &Bound<'py, Self>,
        path: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        guard(|| {
            let state = State::get()?;
            let base = state.machinery.source_base.bind(slf.py());
            base.call_method1("path_stats", (slf, state.placed_path(path)?))
        })
    }

    /// importlib's reader on the package's folder, with all its files placed.
    fn get_resource_reader<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        guard(|| {
            let state = State::get()?;
            state.place_folder_of(slf.as_any())?;
            let base = state.machinery.source_base.bind(slf.py());
            base.call_method1("get_resource_reader", (slf, name))
        })
    }
}

/// Sets the attributes that importlib's loaders have.
pub(crate) fn init(
    slf: &Bound<'_, PyAny>,
    fullname: &Bound<'_, PyAny>,
    path: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = slf.py();
    slf.setattr(intern!(py, "name"), fullname)?;
    slf.setattr(intern!(py, "path"), path)
}

fn exec_module(slf: &Bound<'_, PyAny>, module: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let state = State::get()?;
    let name = module.getattr(intern!(py, "__name__"))?;
    // A subclass may make its own code; ours is asked natively.
    let own = slf.get_type().is(&state.machinery.source);
    let code = if own {
        get_code(slf, &name)?
    } else {
        let code = slf.call_method1(intern!(py, "get_code"), (&name,))?;
        if code.is_none() {
            return Err(PyImportError::new_err(format!(
                "cannot load module {} when get_code() returns None",
                name.repr()?
            )));
        }
        code
    };
    hooks::around(state, &name, || run(state, &code, module))
}

/// Runs code in a module's namespace; a traceback looks as importlib's does.
pub(crate) fn run(
    state: &State,
    code: &Bound<'_, PyAny>,
    module: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = code.py();
    let namespace = module
        .getattr(intern!(py, "__dict__"))?
        .cast_into::<PyDict>()?;
    code::execute(code, &namespace).map_err(|error| state.machinery.without_frames(py, error))
}

fn get_code<'py>(
    slf: &Bound<'py, PyAny>,
    fullname: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    let state = State::get()?;
    let path = own_path(slf, fullname)?;
    let text = path.to_cow()?;
    let own = slf.get_type().is(&state.machinery.source);
    let Some((row, module)) = state.module_at(&text).filter(|_| own) else {
        // Not one of ours, or a subclass that compiles in its own way: importlib does it all.
        state.placed_path(&path)?;
        let base = state.machinery.source_base.bind(py);
        return base.call_method1(intern!(py, "get_code"), (slf, fullname));
    };
    state.place_group(py, &module, &text)?;
    if let Some(code) = state.packed_code(py, row, &module, &path)? {
        return Ok(code);
    }
    let path = state.placed_path(&path)?;
    let source = slf.call_method1(intern!(py, "get_data"), (&path,))?;
    slf.call_method1(intern!(py, "source_to_code"), (source, path))
}

/// The loader's path, after importlib's check that it is asked for its own module.
pub(crate) fn own_path<'py>(
    slf: &Bound<'py, PyAny>,
    fullname: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyString>> {
    let py = slf.py();
    let path = if slf.getattr(intern!(py, "name"))?.eq(fullname)? {
        slf.getattr(intern!(py, "path"))?
    } else {
        slf.call_method1(intern!(py, "get_filename"), (fullname,))?
    };
    Ok(path.cast_into::<PyString>()?)
}

impl State {
    /// The code of a module from the node image; `None` if there is none for this interpreter's
    /// optimisation level.
    pub(crate) fn packed_code<'py>(
        &self,
        py: Python<'py>,
        row: u32,
        module: &Module,
        path: &Bound<'py, PyString>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if !self.packed_level {
            return Ok(None);
        }
        let text = path.to_cow()?;
        let found = if self.image.has_code(row) {
            self.image.code(row)
        } else {
            // It may have to be decoded first, or another rank be waited for.
            py.detach(|| self.image.code(row))
        };
        let found = found.map_err(|error| import_error(py, &error, self.name_of(module), &text))?;
        let Some(bytes) = found else {
            return Ok(None);
        };
        let code = code::unmarshal(&self.machinery, py, bytes, &text)?;
        self.count(|counters| &counters.modules_from_memory);
        if module.filename_at == NONE {
            // The file name couldn't be put in while decoding.
            let sourceless = module.kind == ModuleKind::Sourceless as u8;
            let path = if sourceless {
                self.recorded_file(py, &code)?
            } else {
                Some(path.clone())
            };
            if let Some(path) = path {
                self.machinery
                    .imp
                    .bind(py)
                    .call_method1(intern!(py, "_fix_co_filename"), (&code, path))?;
            }
        }
        Ok(Some(code))
    }

    /// The file that bytecode without a source says it came from, if it lay below a packed root:
    /// importlib leaves the name as it is, here only the root is replaced.
    fn recorded_file<'py>(
        &self,
        py: Python<'py>,
        code: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyString>>> {
        let recorded: OsString = code.getattr(intern!(py, "co_filename"))?.extract()?;
        let claimed = self.claims.claim(recorded.as_bytes());
        let claimed = claimed.filter(|claimed| claimed.whole);
        claimed
            .map(|claimed| self.tree_string(py, &claimed.inside))
            .transpose()
    }
}
