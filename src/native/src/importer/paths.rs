//! `sys.path` and the prefixes: what named the environment names the node image's tree.

use std::{collections::HashSet, ffi::OsString, os::unix::ffi::OsStrExt as _};

use pybundle_bundle::name;
use pyo3::{
    IntoPyObjectExt,
    prelude::*,
    types::{PyDict, PyList, PyString},
};

use super::{claims, state::State};

/// The names that folders of the standard library have on `sys.path`.
pub(crate) struct Standard {
    names: [String; 3],
}

impl Standard {
    /// The names for the running version.
    pub(crate) fn new(py: Python<'_>) -> Self {
        let version = py.version_info();
        let (major, minor) = (version.major, version.minor);
        Self {
            names: [
                format!("python{major}{minor}.zip"),
                format!("python{major}.{minor}"),
                "lib-dynload".to_owned(),
            ],
        }
    }

    /// Is this a folder (or the zip file) of the standard library?
    pub(crate) fn has(&self, path: &[u8]) -> bool {
        let last = name::split(path).1;
        self.names.iter().any(|name| name.as_bytes() == last)
    }

    fn is_zip(&self, path: &[u8]) -> bool {
        name::split(path).1 == self.names[0].as_bytes()
    }

    fn is_extensions(&self, path: &[u8]) -> bool {
        name::split(path).1 == self.names[2].as_bytes()
    }
}

impl State {
    /// Replaces claimed entries of `sys.path` in place, and adds the bundle's own behind the
    /// standard library if the running interpreter isn't the environment's.
    pub(crate) fn rewrite_path(
        &self,
        py: Python<'_>,
        standard: &Standard,
        own: bool,
    ) -> PyResult<()> {
        let path = self
            .machinery
            .sys
            .bind(py)
            .getattr("path")?
            .cast_into::<PyList>()?;
        let mut behind_standard = 0;
        for at in 0..path.len() {
            let Ok(entry) = path.get_item(at)?.cast_into::<PyString>() else {
                continue;
            };
            let text: OsString = entry.extract()?;
            if standard.has(text.as_bytes()) {
                behind_standard = at + 1;
            }
            let inside = match self.place_of(text.as_bytes()) {
                Some((_, inside)) => inside,
                // The zip file of the standard library is never there: nobody need look for it.
                None if standard.is_zip(text.as_bytes()) => {
                    match self.claims.claim(text.as_bytes()) {
                        Some(claimed) => claimed.inside,
                        None => continue,
                    }
                }
                None => continue,
            };
            if standard.is_extensions(text.as_bytes())
                && claims::below(self.tree.as_bytes(), text.as_bytes()).is_none()
            {
                let _ = self.own_extensions.set(text);
            }
            path.set_item(at, self.tree_string(py, &inside)?)?;
        }
        if own {
            return Ok(());
        }
        let manifest = self.image.manifest();
        let mut at = behind_standard;
        // Editable installs are program code and lie where they are.
        let mut editable = manifest.editable.iter().peekable();
        for (before, inside) in manifest.sys_path.iter().enumerate() {
            while let Some(folder) = editable.next_if(|folder| folder.behind <= before) {
                at += usize::from(insert_new(&path, at, &folder.folder)?);
            }
            let entry = self.tree_string(py, inside.as_bytes())?;
            // The running interpreter has a standard library of its own.
            if !standard.has(inside.as_bytes()) {
                at += usize::from(insert_new(&path, at, entry)?);
            }
        }
        for folder in editable {
            at += usize::from(insert_new(&path, at, &folder.folder)?);
        }
        Ok(())
    }

    /// Makes `sys.path` name the running interpreter's own extension modules, as the paths of its
    /// sub-interpreters do. Imports are answered from the bundle all the same.
    pub(crate) fn name_own_extensions(&self, py: Python<'_>) -> PyResult<()> {
        let Some(own) = self.own_extensions.get() else {
            return Ok(());
        };
        let Some(claimed) = self.claims.claim(own.as_bytes()) else {
            return Ok(());
        };
        let ours = self.tree_string(py, &claimed.inside)?;
        let path = self.machinery.sys.bind(py).getattr("path")?;
        // A program may have made it anything.
        let Ok(path) = path.cast_into::<PyList>() else {
            return Ok(());
        };
        for at in 0..path.len() {
            if path.get_item(at)?.eq(&ours)? {
                path.set_item(at, own)?;
            }
        }
        Ok(())
    }

    /// Puts what `.pth` lines have added to `sys.path` where they put it: an entry that the
    /// manifest names too was added a second time, and the first place counts.
    pub(crate) fn settle_path(&self, py: Python<'_>) -> PyResult<()> {
        let path = self.machinery.sys.bind(py).getattr("path")?;
        let path = path.cast_into::<PyList>()?;
        let mut seen = HashSet::new();
        let mut at = 0;
        while at < path.len() {
            let entry: Option<OsString> = path.get_item(at)?.extract().ok();
            let claimed = entry.and_then(|entry| self.place_of(entry.as_bytes()));
            let Some((_, inside)) = claimed else {
                at += 1;
                continue;
            };
            if seen.contains(&inside) {
                path.del_item(at)?;
                continue;
            }
            path.set_item(at, self.tree_string(py, &inside)?)?;
            seen.insert(inside);
            at += 1;
        }
        Ok(())
    }

    /// Forgets the finders that importlib has made before us, of folders that we answer for.
    pub(crate) fn clean_cache(&self, py: Python<'_>) -> PyResult<()> {
        let cache = self.machinery.sys.bind(py).getattr("path_importer_cache")?;
        let cache = cache.cast_into::<PyDict>()?;
        for key in cache.keys() {
            let Ok(path) = key.extract::<OsString>() else {
                continue;
            };
            let files = self.files.as_ref();
            let sent = files.is_some_and(|files| files.has(path.as_bytes()));
            if sent || self.place_of(path.as_bytes()).is_some() {
                cache.del_item(key)?;
            }
        }
        Ok(())
    }

    /// Makes the prefixes name the tree, in `sys` and where the standard library has copied them.
    ///
    /// `sys.base_prefix` follows only where it is the environment's own prefix: elsewhere the
    /// difference of the two says that this is a virtual environment. `sys.executable` stays.
    pub(crate) fn rewrite_prefixes(&self, py: Python<'_>, own: bool) -> PyResult<()> {
        let sys = self.machinery.sys.bind(py);
        let get = |name: &str| sys.getattr(name)?.extract::<String>();
        let (prefix, exec_prefix) = (get("prefix")?, get("exec_prefix")?);
        let based = own && get("base_prefix")? == prefix;
        let mut names = vec!["prefix", "exec_prefix"];
        if based {
            names.extend(["base_prefix", "base_exec_prefix"]);
        }
        for name in &names {
            sys.setattr(*name, &self.tree)?;
        }

        let modules = sys.getattr("modules")?;
        if let Ok(site) = modules.get_item("site")
            && let Ok(prefixes) = site.getattr("PREFIXES")?.cast_into::<PyList>()
        {
            for at in 0..prefixes.len() {
                let known = prefixes.get_item(at)?;
                if known.eq(&prefix)? || known.eq(&exec_prefix)? {
                    prefixes.set_item(at, &self.tree)?;
                }
            }
        }
        if let Ok(sysconfig) = modules.get_item("sysconfig") {
            for name in &names {
                sysconfig.setattr(format!("_{}", name.to_uppercase()), &self.tree)?;
            }
            // Computed at the first question; absent or `None` before that.
            if let Ok(values) = sysconfig.getattr("_CONFIG_VARS")
                && let Ok(values) = values.cast::<PyDict>()
            {
                let copied: &[&str] = &["prefix", "exec_prefix", "base", "platbase"];
                let base: &[&str] = if based {
                    &["installed_base", "installed_platbase"]
                } else {
                    &[]
                };
                for name in copied.iter().chain(base) {
                    if values.contains(name)? {
                        values.set_item(name, &self.tree)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes the finders of `sys.path`, and reads the names in the folders that the bundle doesn't
    /// answer for, so that no import has to.
    pub(crate) fn make_finders(&self, py: Python<'_>) -> PyResult<()> {
        let path = self.machinery.sys.bind(py).getattr("path")?;
        let path_finder = self.machinery.path_finder.bind(py);
        let nothing = PyString::new(py, "");
        for entry in path.try_iter()? {
            let Ok(entry) = entry?.cast_into::<PyString>() else {
                continue;
            };
            let text: OsString = entry.extract()?;
            if text.as_bytes().starts_with(b"/") {
                let finder = path_finder.call_method1("_path_importer_cache", (&entry,))?;
                if finder.get_type().is(&self.machinery.file_finder) {
                    self.may_have(&finder, &entry, &nothing)?;
                }
            }
        }
        Ok(())
    }
}

/// Inserts what the list doesn't have yet; says whether it did.
fn insert_new<'py>(
    list: &Bound<'py, PyList>,
    at: usize,
    entry: impl IntoPyObject<'py>,
) -> PyResult<bool> {
    let entry = entry.into_bound_py_any(list.py())?;
    let is_new = !list.contains(&entry)?;
    if is_new {
        list.insert(at, entry)?;
    }
    Ok(is_new)
}
