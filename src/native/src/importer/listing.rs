//! Names in the folders of `sys.path` that the bundle doesn't answer for.
//!
//! Such a folder (the program's own, the standard library where it isn't packed) may come before
//! the bundle's on `sys.path`, and importlib would look into it at every import. So its names are
//! read once, and a name that isn't among them isn't asked for. `importlib.invalidate_caches()`
//! forgets them; and a name that nothing on `sys.path` has is still searched by importlib itself,
//! behind our finder.

use std::{collections::HashSet, ffi::OsString, io, os::unix::ffi::OsStrExt as _};

use pyo3::{
    intern,
    prelude::*,
    types::{PySet, PyString},
};

use super::state::State;

impl State {
    /// May the folder have a module of this name? `finder` is importlib's finder for it, `folder`
    /// its absolute path.
    pub(crate) fn may_have(
        &self,
        finder: &Bound<'_, PyAny>,
        folder: &Bound<'_, PyString>,
        tail: &Bound<'_, PyString>,
    ) -> PyResult<bool> {
        let py = folder.py();
        let listings = self.listings.bind(py);
        let known = if let Some(known) = listings.get_item(folder)? {
            known
        } else {
            let names = match names_read(finder) {
                Some(names) => Ok(names),
                None => names_on_disk(&folder.extract::<OsString>()?),
            };
            let known = match names {
                Ok(names) => PySet::new(py, stems(&names))?.into_any(),
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

/// The names that importlib's finder has read already, since the interpreter started.
fn names_read(finder: &Bound<'_, PyAny>) -> Option<Vec<String>> {
    let py = finder.py();
    let read: f64 = finder
        .getattr(intern!(py, "_path_mtime"))
        .ok()?
        .extract()
        .ok()?;
    if read < 0.0 {
        return None;
    }
    let cache = finder.getattr(intern!(py, "_path_cache")).ok()?;
    let mut names = Vec::new();
    // Not `collect`: it asks `operator` for a hint of the length, which may not be imported yet.
    for name in cache.try_iter().ok()? {
        // A name that isn't UTF-8 can't be imported.
        names.extend(name.ok()?.extract::<String>());
    }
    Some(names)
}

/// The names in a folder; none if it isn't there.
fn names_on_disk(folder: &OsString) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = std::str::from_utf8(entry?.file_name().as_bytes()) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// The names up to their first dot: no suffix of a module comes without one.
fn stems(names: &[String]) -> HashSet<&str> {
    names
        .iter()
        .filter_map(|name| name.split('.').next())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_of_modules_and_packages() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.py", "b.cpython-311-x86_64-linux-gnu.so", "b.py", "c"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names = names_on_disk(&folder.path().into()).unwrap();
        assert_eq!(stems(&names), HashSet::from(["a", "b", "c"]));
        let absent = folder.path().join("absent");
        assert!(names_on_disk(&absent.into()).unwrap().is_empty());
    }
}
