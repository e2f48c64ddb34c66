//! The loader of modules that exist as bytecode alone.

use pyo3::{
    intern,
    prelude::*,
    types::{PyDict, PyTuple},
};

use super::{
    guard::guard,
    source::{self, own_path},
    state::State,
};

/// Loads a module of the bundle that has no source.
#[pyclass(
    frozen,
    subclass,
    module = "pybundle._native",
    name = "SourcelessMethods"
)]
pub(crate) struct SourcelessMethods;

#[pymethods]
impl SourcelessMethods {
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
        source::init(slf.as_any(), fullname, path)
    }

    /// Leaves making the module to importlib.
    #[staticmethod]
    fn create_module(_spec: &Bound<'_, PyAny>) {}

    /// Runs the module's code in its namespace.
    fn exec_module(slf: &Bound<'_, Self>, module: &Bound<'_, PyAny>) -> PyResult<()> {
        guard(|| {
            let name = module.getattr(intern!(slf.py(), "__name__"))?;
            let code = slf.call_method1(intern!(slf.py(), "get_code"), (name,))?;
            source::run(State::get()?, &code, module)
        })
    }

    /// The module's code object.
    fn get_code<'py>(
        slf: &Bound<'py, Self>,
        fullname: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        guard(|| {
            let (py, state) = (slf.py(), State::get()?);
            let path = own_path(slf.as_any(), fullname)?;
            let text = path.to_cow()?;
            if let Some((row, module)) = state.module_at(&text) {
                state.place_group(py, &module, &text)?;
                if let Some(code) = state.packed_code(py, row, &module, &path)? {
                    return Ok(code);
                }
            }
            state.placed_path(&path)?;
            let base = state.machinery.sourceless_base.bind(py);
            base.call_method1(intern!(py, "get_code"), (slf, fullname))
        })
    }

    /// The bytes of a file, placed first if it is one of the bundle's.
    fn get_data<'py>(
        slf: &Bound<'py, Self>,
        path: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        guard(|| {
            let state = State::get()?;
            let base = state.machinery.sourceless_base.bind(slf.py());
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
            let base = state.machinery.sourceless_base.bind(slf.py());
            base.call_method1("get_resource_reader", (slf, name))
        })
    }
}
