//! The loader of extension modules: files of the tree, their libraries opened first.

use std::path::Path;

use pyo3::{
    intern,
    prelude::*,
    types::{PyDict, PyString, PyTuple},
};

use super::{
    guard::{guard, import_error},
    hooks, source,
    state::State,
};

/// Loads an extension module of the bundle from the node image's tree.
#[pyclass(
    frozen,
    subclass,
    module = "pybundle._native",
    name = "ExtensionMethods"
)]
pub(crate) struct ExtensionMethods;

#[pymethods]
impl ExtensionMethods {
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Self
    }

    fn __init__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyAny>,
        path: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        source::init(slf.as_any(), name, path)
    }

    /// Opens the module, after placing its distribution and opening the libraries it needs.
    fn create_module<'py>(
        slf: &Bound<'py, Self>,
        spec: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        guard(|| {
            let (py, state) = (slf.py(), State::get()?);
            let path: String = slf.getattr(intern!(py, "path"))?.extract()?;
            let module = state.module_at(&path);
            let mut file = None;
            if let Some((_, module)) = &module {
                let name = spec.getattr(intern!(py, "name"))?.cast_into::<PyString>()?;
                state.place_group(py, module, &path)?;
                state.open_libraries(py, module, &path)?;
                file = hooks::own_file(state, &name.to_cow()?, &path);
                if file.is_none() && !state.image.is_executable() {
                    let copy = py.detach(|| state.native_file(Path::new(&path)));
                    file = Some(copy.map_err(|error| import_error(py, &error, &path, &path))?);
                }
            }
            let opened = match &file {
                Some(file) => with_origin(spec, file)?,
                None => spec.clone(),
            };
            let made = state
                .machinery
                .imp
                .bind(py)
                .call_method1(intern!(py, "create_dynamic"), (opened,))
                .map_err(|error| state.machinery.without_frames(py, error))?;
            if file.is_some() {
                // Some modules have it from the spec that they are made with.
                made.setattr(intern!(py, "__file__"), &path)?;
            }
            if module.is_some() {
                state.count(|counters| &counters.extensions);
            }
            Ok(made)
        })
    }

    /// Runs the module's own initialisation.
    fn exec_module(slf: &Bound<'_, Self>, module: &Bound<'_, PyAny>) -> PyResult<()> {
        guard(|| {
            let (py, state) = (slf.py(), State::get()?);
            state
                .machinery
                .imp
                .bind(py)
                .call_method1(intern!(py, "exec_dynamic"), (module,))
                .map_err(|error| state.machinery.without_frames(py, error))?;
            if hooks::makes_interpreters(&module.getattr(intern!(py, "__name__"))?)? {
                hooks::teach_interpreters(state, module)?;
            }
            Ok(())
        })
    }

    /// The bytes of a file, placed first if it is one of the bundle's.
    fn get_data<'py>(
        slf: &Bound<'py, Self>,
        path: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        guard(|| {
            let state = State::get()?;
            let base = state.machinery.extension_base.bind(slf.py());
            base.call_method1("get_data", (slf, state.placed_path(path)?))
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
            let base = state.machinery.extension_base.bind(slf.py());
            base.call_method1("get_resource_reader", (slf, name))
        })
    }
}

/// A spec that names another file than the tree's.
fn with_origin<'py>(spec: &Bound<'py, PyAny>, file: &Path) -> PyResult<Bound<'py, PyAny>> {
    let py = spec.py();
    let other = py.import("copy")?.call_method1("copy", (spec,))?;
    other.setattr(intern!(py, "origin"), file.as_os_str())?;
    Ok(other)
}
