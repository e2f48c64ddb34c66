//! The modules in a folder of the bundle, as `pkgutil.iter_modules` lists them.

use std::collections::HashSet;

use pybundle_bundle::{
    name,
    record::{Node, some},
};
use pyo3::{intern, prelude::*};

use super::{lookup::Found, state::State};

impl State {
    /// The suffixes of module files, longest first, as `inspect.getmodulename` tries them.
    pub(crate) fn suffixes(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let details = self
            .machinery
            .external
            .bind(py)
            .call_method0(intern!(py, "_get_supported_file_loaders"))?;
        let mut suffixes = Vec::new();
        for detail in details.try_iter()? {
            let (_, some): (Bound<'_, PyAny>, Vec<String>) = detail?.extract()?;
            suffixes.extend(some);
        }
        suffixes.sort_by_key(|suffix| std::cmp::Reverse(suffix.len()));
        Ok(suffixes)
    }

    /// Names of the modules in a folder, and which of them are packages; sorted by file name.
    pub(crate) fn modules_in(&self, folder: u32, suffixes: &[String]) -> Vec<(String, bool)> {
        let index = self.image.index();
        let mut seen = HashSet::new();
        let mut modules = Vec::new();
        let Some(record) = index.folder(folder) else {
            return modules;
        };
        for node in index.children(&record) {
            let Some(file) = index.path(node).map(|path| name::split(path).1) else {
                continue;
            };
            let Ok(file) = std::str::from_utf8(file) else {
                continue;
            };
            let stem = suffixes
                .iter()
                .find_map(|suffix| file.strip_suffix(suffix.as_str()));
            let (module, package) = match (stem, node) {
                (Some(stem), _) => (stem, false),
                // A folder or a link to one is listed if it is a package.
                (None, _) if !file.contains('.') && self.is_package(folder, file, node) => {
                    (file, true)
                }
                _ => continue,
            };
            if module != "__init__" && !module.contains('.') && seen.insert(module.to_owned()) {
                modules.push((module.to_owned(), package));
            }
        }
        // Packages all of them; they are imported from where they were.
        let inside = index.path(Node::Folder(folder)).unwrap_or_default();
        for name in self.left_out_of(inside) {
            if seen.insert(name.to_owned()) {
                let behind = modules.iter().position(|(other, _)| other.as_str() > name);
                modules.insert(behind.unwrap_or(modules.len()), (name.to_owned(), true));
            }
        }
        modules
    }

    fn is_package(&self, folder: u32, file: &str, node: Node) -> bool {
        match (self.find_in(folder, file.as_bytes()), node) {
            (Some(Found::Module(_, module)), Node::Folder(row)) => {
                some(module.package) == Some(row)
            }
            (Some(Found::Module(_, module)), Node::Entry(_)) => some(module.package).is_some(),
            _ => false,
        }
    }
}
