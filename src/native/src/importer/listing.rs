//! Names in the folders of `sys.path` that the bundle doesn't answer for.
//!
//! Such a folder (the program's own, the standard library where it isn't packed) may come before
//! the bundle's on `sys.path`, and importlib would look into it at every import. So its names are
//! read once, and a name that isn't among them isn't asked for. `importlib.invalidate_caches()`
//! forgets them; and a name that nothing on `sys.path` has is still searched by importlib itself,
//! behind our finder.

use std::{ffi::OsString, io, os::unix::ffi::OsStrExt as _};

use pyo3::{
    prelude::*,
    types::{PySet, PyString},
};

use super::state::State;

impl State {
    /// May the folder have a module of this name? `folder` is an absolute path of `sys.path`.
    pub(crate) fn may_have(
        &self,
        folder: &Bound<'_, PyString>,
        tail: &Bound<'_, PyString>,
    ) -> PyResult<bool> {
        let py = folder.py();
        let listings = self.listings.bind(py);
        let known = if let Some(known) = listings.get_item(folder)? {
            known
        } else {
            let path: OsString = folder.extract()?;
            let known = match stems(&path) {
                Ok(stems) => PySet::new(py, stems)?.into_any(),
                // What can't be listed may still be searched.
                Err(_) => py.None().into_bound(py),
            };
            listings.set_item(folder, &known)?;
            known
        };
        match known.cast::<PySet>() {
            Ok(names) => names.contains(tail),
            Err(_) => Ok(true),
        }
    }
}

/// The names in a folder up to their first dot: no suffix of a module comes without one.
fn stems(folder: &OsString) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut stems = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let stem = name.as_bytes().split(|&byte| byte == b'.').next();
        // A name that isn't UTF-8 can't be imported.
        if let Some(stem) = stem.and_then(|stem| std::str::from_utf8(stem).ok()) {
            stems.push(stem.to_owned());
        }
    }
    Ok(stems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_of_modules_and_packages() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.py", "b.cpython-311-x86_64-linux-gnu.so", "c"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let mut found = stems(&folder.path().into()).unwrap();
        found.sort();
        assert_eq!(found, ["a", "b", "c"]);
        assert!(
            stems(&folder.path().join("absent").into())
                .unwrap()
                .is_empty()
        );
    }
}
