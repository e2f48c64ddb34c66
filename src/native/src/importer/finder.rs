//! The finder on `sys.meta_path`, directly before `PathFinder`, doing its work natively.
//!
//! For each entry of the path, in order: a folder that the bundle answers for costs a look-up in
//! the index; any other is asked through its own finder, as importlib would. What isn't a single
//! module (namespace packages, names that nothing has) is left to `PathFinder`, which finds our
//! folders' part of the answer through the path hook.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use pyo3::{
    intern,
    prelude::*,
    types::{PyDict, PyString, PyType},
};

use super::{
    folder::{Answer, FolderMethods},
    guard::guard,
    hooks,
    lookup::{Found, Place},
    program::{self, ProgramFinderMethods},
    state::State,
};

/// When a module was last searched for, in milliseconds of [`now`].
static SEARCHED: AtomicU64 = AtomicU64::new(0);

/// A module is searched for.
pub(super) fn searching() {
    SEARCHED.store(now(), Ordering::Relaxed);
}

/// How long no module has been searched for.
pub(crate) fn quiet_for() -> Duration {
    Duration::from_millis(now().saturating_sub(SEARCHED.load(Ordering::Relaxed)))
}

/// Milliseconds of a clock that costs no system call.
fn now() -> u64 {
    let time =
        clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::ZERO, Duration::from);
    time.as_millis() as u64
}

/// Finds modules of the bundle, and of everything else on the path.
#[pyclass(frozen, module = "pybundle._native")]
pub(crate) struct Finder;

#[pymethods]
impl Finder {
    /// The spec of a module, or `None`: then `PathFinder` is asked.
    #[staticmethod]
    #[pyo3(signature = (fullname, path=None, target=None))]
    pub(crate) fn find_spec<'py>(
        fullname: &Bound<'py, PyString>,
        path: Option<&Bound<'py, PyAny>>,
        target: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        guard(|| search(State::get()?, fullname, path, target))
    }

    /// From now on the disk is searched for names that the bundle doesn't have.
    #[staticmethod]
    fn invalidate_caches(py: Python<'_>) -> PyResult<()> {
        guard(|| {
            State::get()?.open(py);
            Ok(())
        })
    }
}

fn search<'py>(
    state: &State,
    fullname: &Bound<'py, PyString>,
    path: Option<&Bound<'py, PyAny>>,
    target: Option<&Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    searching();
    let py = fullname.py();
    let sys = state.machinery.sys.bind(py);
    let top = path.is_none();
    let path = match path {
        Some(path) => path.clone(),
        None => sys.getattr(intern!(py, "path"))?,
    };
    let cache = sys.getattr(intern!(py, "path_importer_cache"))?;
    let Ok(cache) = cache.cast::<PyDict>() else {
        return Ok(None);
    };
    for entry in path.try_iter()? {
        let entry = entry?;
        let Ok(mut entry) = entry.cast_into::<PyString>() else {
            // A path in bytes, which some versions take: importlib's own business.
            continue;
        };
        if entry.is_empty()? {
            let Ok(folder) = std::env::current_dir() else {
                continue;
            };
            entry = folder.as_os_str().into_pyobject(py)?;
        }
        let finder = match cache.get_item(&entry)? {
            Some(finder) => finder,
            None => state
                .machinery
                .path_finder
                .bind(py)
                .call_method1(intern!(py, "_path_importer_cache"), (&entry,))?,
        };
        if let Ok(folder) = finder.cast::<FolderMethods>() {
            match folder.get().find(state, fullname, target)? {
                Some(Answer::Module(spec)) => return Ok(Some(spec)),
                Some(Answer::Portion(_)) | None => {}
            }
        } else if !state.is_open()
            && let Ok(folder) = finder.cast::<ProgramFinderMethods>()
        {
            let spec = program::find(state, folder, fullname, target)?;
            // A portion is left to `PathFinder`.
            if let Some(spec) = spec
                && !spec.getattr(intern!(py, "loader"))?.is_none()
            {
                return Ok(Some(spec));
            }
        } else if !finder.is_none()
            && let Some(spec) = ask(state, &finder, &entry, fullname, target, top)?
        {
            return Ok(Some(spec));
        }
    }
    Ok(None)
}

/// Asks another finder; a spec without a loader is left to `PathFinder`.
fn ask<'py>(
    state: &State,
    finder: &Bound<'py, PyAny>,
    entry: &Bound<'py, PyString>,
    fullname: &Bound<'py, PyString>,
    target: Option<&Bound<'py, PyAny>>,
    top: bool,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = finder.py();
    let claimed = state.place_for_other(finder, entry, fullname)?;
    if top
        && !claimed
        && (finder.get_type().is(&state.machinery.file_finder)
            || finder.get_type().is(&state.machinery.program_finder))
        && !may_have(state, finder, entry, fullname)?
    {
        return Ok(None);
    }
    let spec = if finder.hasattr(intern!(py, "find_spec"))? {
        finder.call_method1(intern!(py, "find_spec"), (fullname, target))?
    } else {
        // A finder of the old kind, which Python up to 3.11 knows how to ask.
        state
            .machinery
            .path_finder
            .bind(py)
            .call_method1(intern!(py, "_get_spec"), (fullname, (entry,), target))?
    };
    if spec.is_none() {
        return Ok(None);
    }
    let loader = spec.getattr(intern!(py, "loader"))?;
    if loader.is_none() {
        return Ok(None);
    }
    let machinery = &state.machinery;
    let is = |class: &Py<PyType>| loader.get_type().is(class);
    let ours = if is(&machinery.source_base) && hooks::wants(fullname)? {
        Some(&machinery.source)
    } else if is(&machinery.extension_base) && hooks::makes_interpreters(fullname)? {
        Some(&machinery.extension)
    } else {
        None
    };
    if let Some(class) = ours {
        // From the disk, but our loader runs it: it does as importlib's for what isn't packed.
        let path = loader.getattr(intern!(py, "path"))?;
        let ours = class.bind(py).call1((fullname, path))?;
        spec.setattr(intern!(py, "loader"), ours)?;
    }
    Ok(Some(spec))
}

fn may_have(
    state: &State,
    finder: &Bound<'_, PyAny>,
    entry: &Bound<'_, PyString>,
    fullname: &Bound<'_, PyString>,
) -> PyResult<bool> {
    let Ok(name) = fullname.to_cow() else {
        return Ok(true);
    };
    match name.rsplit_once('.') {
        None => state.may_have(finder, entry, fullname),
        Some((_, tail)) => state.may_have(finder, entry, &PyString::new(fullname.py(), tail)),
    }
}

impl State {
    /// A finder that isn't ours is about to look into a folder. If it is one of the tree (a hook
    /// that rewrites sources put the finder there), the file it will look for must lie in it.
    fn place_for_other(
        &self,
        finder: &Bound<'_, PyAny>,
        entry: &Bound<'_, PyString>,
        fullname: &Bound<'_, PyString>,
    ) -> PyResult<bool> {
        let (Ok(path), Ok(name)) = (entry.to_cow(), fullname.to_cow()) else {
            return Ok(false);
        };
        let Some((place, _)) = self.place_of(path.as_bytes()) else {
            return Ok(false);
        };
        let Place::Folder(row) = place else {
            return Ok(true);
        };
        let tail = name.rsplit('.').next().unwrap_or_default();
        if let Some(Found::Module(_, module)) = self.find_in(row, tail.as_bytes()) {
            let py = finder.py();
            self.place_group(py, &module, &path)?;
            self.place_file(py, module.file)?;
            if finder.hasattr(intern!(py, "invalidate_caches"))? {
                finder.call_method0(intern!(py, "invalidate_caches"))?;
            }
        }
        Ok(true)
    }
}
