//! The objects of importlib that the finder and the loaders use, fetched once.
//!
//! Our loaders are subclasses of importlib's own, so that `isinstance` checks, `pkg_resources`,
//! import hooks and pickling see what they know. A class is made of a native one that has the
//! methods, and importlib's, which has the rest.

use std::ffi::OsString;

use pyo3::{
    intern,
    prelude::*,
    types::{PyDict, PyType},
};

use super::{
    extension::ExtensionMethods,
    finder::Finder,
    folder::FolderMethods,
    program::{ProgramFinderMethods, ProgramLoaderMethods},
    source::SourceMethods,
    sourceless::SourcelessMethods,
};

/// What is fetched from the running interpreter.
pub(crate) struct Machinery {
    pub(crate) sys: Py<PyModule>,
    /// `importlib._bootstrap`.
    pub(crate) bootstrap: Py<PyModule>,
    /// `importlib._bootstrap_external`.
    pub(crate) external: Py<PyModule>,
    /// `_imp`.
    pub(crate) imp: Py<PyModule>,
    pub(crate) module_spec: Py<PyAny>,
    pub(crate) path_finder: Py<PyAny>,
    pub(crate) file_finder: Py<PyType>,
    /// `types.CodeType`.
    pub(crate) code_type: Py<PyType>,
    /// importlib's loaders, base classes of ours.
    pub(crate) source_base: Py<PyType>,
    pub(crate) sourceless_base: Py<PyType>,
    pub(crate) extension_base: Py<PyType>,
    /// Our loaders, and the finder for one folder.
    pub(crate) source: Py<PyType>,
    pub(crate) sourceless: Py<PyType>,
    pub(crate) extension: Py<PyType>,
    pub(crate) folder: Py<PyType>,
    /// The same for the program's own modules.
    pub(crate) program_loader: Py<PyType>,
    pub(crate) program_finder: Py<PyType>,
    /// How a cached file's name goes on behind the module's: `.cpython-311.pyc`, `None` if the
    /// implementation has no cache tag.
    pub(crate) cached_suffix: Option<String>,
    /// `sys.flags.optimize`.
    pub(crate) optimize: u8,
    /// `sys.executable`.
    pub(crate) executable: Option<OsString>,
}

impl Machinery {
    /// Fetches everything and makes our classes, which also become attributes of the extension.
    pub(crate) fn new(py: Python<'_>) -> PyResult<Self> {
        let sys = py.import("sys")?;
        let bootstrap = py.import("_frozen_importlib")?;
        let external = py.import("_frozen_importlib_external")?;
        let class = |name: &str| -> PyResult<Bound<'_, PyType>> {
            Ok(external.getattr(name)?.cast_into::<PyType>()?)
        };
        let (source_base, sourceless_base, extension_base) = (
            class("SourceFileLoader")?,
            class("SourcelessFileLoader")?,
            class("ExtensionFileLoader")?,
        );
        let file_finder = class("FileFinder")?;
        let code_type = bootstrap
            .getattr("_find_and_load")?
            .getattr("__code__")?
            .get_type();
        let optimize: u8 = sys.getattr("flags")?.getattr("optimize")?.extract()?;
        let tag: Option<String> = sys
            .getattr("implementation")?
            .getattr("cache_tag")?
            .extract()?;
        let level = if optimize == 0 {
            String::new()
        } else {
            format!(".opt-{optimize}")
        };
        Ok(Self {
            module_spec: bootstrap.getattr("ModuleSpec")?.unbind(),
            path_finder: external.getattr("PathFinder")?.unbind(),
            code_type: code_type.unbind(),
            source: subclass(
                &py.get_type::<SourceMethods>(),
                &source_base,
                "SourceLoader",
            )?,
            sourceless: subclass(
                &py.get_type::<SourcelessMethods>(),
                &sourceless_base,
                "SourcelessLoader",
            )?,
            extension: subclass(
                &py.get_type::<ExtensionMethods>(),
                &extension_base,
                "ExtensionLoader",
            )?,
            folder: subclass(
                &py.get_type::<FolderMethods>(),
                &file_finder,
                "FolderFinder",
            )?,
            program_loader: subclass(
                &py.get_type::<ProgramLoaderMethods>(),
                &source_base,
                "ProgramLoader",
            )?,
            program_finder: subclass(
                &py.get_type::<ProgramFinderMethods>(),
                &file_finder,
                "ProgramFinder",
            )?,
            source_base: source_base.unbind(),
            sourceless_base: sourceless_base.unbind(),
            extension_base: extension_base.unbind(),
            file_finder: file_finder.unbind(),
            imp: py.import("_imp")?.unbind(),
            executable: sys.getattr("executable")?.extract()?,
            sys: sys.unbind(),
            bootstrap: bootstrap.unbind(),
            external: external.unbind(),
            cached_suffix: tag.map(|tag| format!(".{tag}{level}.pyc")),
            optimize,
        })
    }

    /// Makes our classes attributes of the extension module, where pickling looks for them.
    pub(crate) fn publish(&self, py: Python<'_>) -> PyResult<()> {
        let modules = self.sys.bind(py).getattr("modules")?;
        let Ok(module) = modules.get_item(MODULE) else {
            return Ok(());
        };
        module.setattr("Finder", py.get_type::<Finder>())?;
        if is_named_after_importlib(py) {
            self.external.bind(py).setattr(NESTED, &module)?;
        }
        for class in [
            &self.source,
            &self.sourceless,
            &self.extension,
            &self.folder,
            &self.program_loader,
            &self.program_finder,
        ] {
            let class = class.bind(py);
            module.setattr(class.name()?, class)?;
        }
        Ok(())
    }

    /// Raises `error` again from inside importlib's `_call_with_frames_removed`: the interpreter
    /// cuts importlib's own frames out of a traceback only above a frame of that name.
    pub(crate) fn without_frames(&self, py: Python<'_>, error: PyErr) -> PyErr {
        let raise = move |_: &Bound<'_, pyo3::types::PyTuple>,
                          _: Option<&Bound<'_, PyDict>>|
              -> PyResult<()> { Python::attach(|py| Err(error.clone_ref(py))) };
        let call = || {
            let raise = pyo3::types::PyCFunction::new_closure(py, None, None, raise)?;
            self.bootstrap
                .bind(py)
                .call_method1(intern!(py, "_call_with_frames_removed"), (raise,))
        };
        match call() {
            Err(error) => error,
            Ok(_) => pyo3::exceptions::PyImportError::new_err("importlib swallowed an error"),
        }
    }
}

/// The extension module that holds the classes.
const MODULE: &str = "pybundle._native";

/// Its name in importlib's module, where our classes say that they are nested there.
const NESTED: &str = "pybundle";

/// In Python 3.9 a backport of importlib.resources knows by the name of its class's module alone
/// that a loader is one for files.
fn is_named_after_importlib(py: Python<'_>) -> bool {
    py.version_info() < (3, 10)
}

fn subclass(
    methods: &Bound<'_, PyType>,
    base: &Bound<'_, PyType>,
    name: &str,
) -> PyResult<Py<PyType>> {
    let py = base.py();
    let namespace = PyDict::new(py);
    if is_named_after_importlib(py) {
        namespace.set_item("__module__", "_frozen_importlib_external")?;
        namespace.set_item("__qualname__", format!("{NESTED}.{name}"))?;
    } else {
        namespace.set_item("__module__", MODULE)?;
    }
    namespace.set_item("__doc__", methods.getattr("__doc__")?)?;
    let class = py
        .get_type::<PyType>()
        .call1((name, (methods, base), namespace))?;
    Ok(class.cast_into::<PyType>()?.unbind())
}
