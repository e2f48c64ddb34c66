//! Module specs as path-based import makes them, naming the tree.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

use pybundle_bundle::{
    name,
    record::{Module, ModuleKind, Node, some},
};
use pyo3::{
    intern,
    prelude::*,
    types::{PyDict, PyList, PyString},
};

use super::{claims, state::State};

impl State {
    /// The spec of a module of the bundle.
    pub(crate) fn module_spec<'py>(
        &self,
        fullname: &Bound<'py, PyString>,
        module: &Module,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = fullname.py();
        let index = self.image.index();
        let (Some(kind), Some(file)) = (
            ModuleKind::from_number(module.kind),
            index.path(Node::Entry(module.file)),
        ) else {
            return Ok(None);
        };
        let origin = self.tree_string(py, file)?;
        let class = match kind {
            ModuleKind::Source => &self.machinery.source,
            ModuleKind::Sourceless => &self.machinery.sourceless,
            ModuleKind::Extension => &self.machinery.extension,
        };
        let loader = class.bind(py).call1((fullname, &origin))?;

        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "origin"), &origin)?;
        let spec = self
            .machinery
            .module_spec
            .bind(py)
            .call((fullname, loader), Some(&keywords))?;
        spec.setattr(intern!(py, "_set_fileattr"), true)?;
        if let Some(cached) = self.cached(py, kind, file, &origin)? {
            spec.setattr(intern!(py, "_cached"), cached)?;
        }
        if some(module.package).is_some() {
            let folder = self.tree_string(py, name::split(file).0)?;
            let locations = PyList::new(py, [folder])?;
            spec.setattr(intern!(py, "submodule_search_locations"), locations)?;
        }
        Ok(Some(spec))
    }

    /// The spec of a portion of a namespace package: no loader, one place to search.
    pub(crate) fn portion_spec<'py>(
        &self,
        fullname: &Bound<'py, PyString>,
        inside: &[u8],
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = fullname.py();
        let spec = self
            .machinery
            .module_spec
            .bind(py)
            .call1((fullname, py.None()))?;
        let locations = PyList::new(py, [self.tree_string(py, inside)?])?;
        spec.setattr(intern!(py, "submodule_search_locations"), locations)?;
        Ok(spec)
    }

    /// What `__cached__` says: where CPython would keep the bytecode.
    fn cached<'py>(
        &self,
        py: Python<'py>,
        kind: ModuleKind,
        file: &[u8],
        origin: &Bound<'py, PyString>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        match (kind, &self.machinery.cached_suffix) {
            (ModuleKind::Extension, _) | (ModuleKind::Source, None) => Ok(None),
            (ModuleKind::Sourceless, _) => Ok(Some(origin.clone().into_any())),
            (ModuleKind::Source, Some(suffix)) => {
                let sys = self.machinery.sys.bind(py);
                if !sys.getattr(intern!(py, "pycache_prefix"))?.is_none() {
                    let external = self.machinery.external.bind(py);
                    return external
                        .call_method1(intern!(py, "cache_from_source"), (origin,))
                        .map(Some);
                }
                let (folder, file) = name::split(file);
                let stem = file.rsplitn(2, |&byte| byte == b'.').last().unwrap_or(file);
                let cached = [b"__pycache__/", stem, suffix.as_bytes()].concat();
                let path = self.tree_string(py, &claims::join(folder, &cached))?;
                Ok(Some(path.into_any()))
            }
        }
    }

    /// The tree's path for a path inside the bundle, as Python says it.
    pub(crate) fn tree_string<'py>(
        &self,
        py: Python<'py>,
        inside: &[u8],
    ) -> PyResult<Bound<'py, PyString>> {
        if inside.is_empty() {
            return Ok(PyString::new(py, &self.tree));
        }
        let mut path = Vec::with_capacity(self.tree.len() + 1 + inside.len());
        path.extend(self.tree.as_bytes());
        path.push(b'/');
        path.extend(inside);
        match std::str::from_utf8(&path) {
            Ok(path) => Ok(PyString::new(py, path)),
            Err(_) => Ok(OsStr::from_bytes(&path).into_pyobject(py)?),
        }
    }
}
