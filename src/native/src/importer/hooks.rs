//! Modules of the standard library that need a hand.
//!
//! `pkgutil` must learn of our finder, `importlib.metadata` and its backport of files that aren't in
//! the tree yet. `sysconfig` walks from the interpreter's path to its real folder, name by name, at
//! every start of a program that imports numpy or pandas; what it asks is known without looking.
//! Sub-interpreters import from files.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use pyo3::{
    intern,
    prelude::*,
    types::{PyCFunction, PyDict, PyTuple},
};

use super::{
    claims,
    folder::FolderMethods,
    guard::{guard, import_error},
    lookup::Place,
    state::State,
    unplaced,
};

/// The module that makes sub-interpreters, from 3.13 on and before.
const MAKERS: [&str; 2] = ["_interpreters", "_xxsubinterpreters"];

/// Modules in C through which the interpreters of a process know of each other.
const SHARED: [&str; 4] = [
    "_interpchannels",
    "_interpqueues",
    "_xxinterpchannels",
    "_xxsubinterpreters",
];

/// Is this one of the modules that [`around`] knows?
pub(crate) fn wants(name: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = name.py();
    Ok(
        name.eq(intern!(py, "pkgutil"))?
            || name.eq(intern!(py, "sysconfig"))?
            || is_metadata(name)?,
    )
}

fn is_metadata(name: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = name.py();
    Ok(
        name.eq(intern!(py, "importlib.metadata"))?
            || name.eq(intern!(py, "importlib_metadata"))?,
    )
}

/// Is this the module that makes sub-interpreters?
pub(crate) fn makes_interpreters(name: &Bound<'_, PyAny>) -> PyResult<bool> {
    for maker in MAKERS {
        if name.eq(maker)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Teaches that module to get ready for sub-interpreters, which have CPython's finders alone and
/// want every file in the tree: when it makes one, for since 3.14 `concurrent.futures` imports it.
pub(crate) fn teach_interpreters(state: &'static State, module: &Bound<'_, PyAny>) -> PyResult<()> {
    let create = module.getattr("create")?.unbind();
    let ready = move |arguments: &Bound<'_, PyTuple>, keywords: Option<&Bound<'_, PyDict>>| {
        guard(|| {
            let py = arguments.py();
            py.detach(|| state.image.place_all())
                .map_err(|error| import_error(py, &error, "_interpreters", &state.tree))?;
            state.name_own_extensions(py)?;
            create.call(py, arguments, keywords)
        })
    };
    let ready = PyCFunction::new_closure(module.py(), Some(c"create"), None, ready)?;
    module.setattr("create", ready)
}

/// Teaches it where our loader will not: it was imported before, or it is part of the executable.
pub(crate) fn teach_present_interpreters(state: &'static State, py: Python<'_>) -> PyResult<()> {
    let sys = state.machinery.sys.bind(py);
    let (modules, builtin) = (
        sys.getattr("modules")?,
        sys.getattr("builtin_module_names")?,
    );
    for name in MAKERS {
        let module = match modules.get_item(name) {
            // A program may have forbidden it.
            Ok(module) if module.is_none() => continue,
            Ok(module) => module,
            Err(_) if builtin.contains(name)? => py.import(name)?.into_any(),
            Err(_) => continue,
        };
        teach_interpreters(state, &module)?;
    }
    Ok(())
}

/// The running interpreter's own file of an extension module, if that is to be opened instead of
/// the bundle's: sub-interpreters open it, and two copies would not know of each other's queues.
pub(crate) fn own_file(state: &State, name: &str, path: &str) -> Option<PathBuf> {
    let own = state
        .own_extensions
        .get()
        .filter(|_| SHARED.contains(&name));
    let file = Path::new(own?).join(Path::new(path).file_name()?);
    file.is_file().then_some(file)
}

/// Runs `body`, which runs the module of this name.
pub(crate) fn around(
    state: &'static State,
    name: &Bound<'_, PyAny>,
    body: impl FnOnce() -> PyResult<()>,
) -> PyResult<()> {
    let py = name.py();
    if name.eq(intern!(py, "pkgutil"))? {
        body()?;
        register(state, py)
    } else if is_metadata(name)? {
        body()?;
        unplaced::teach_metadata(state, name)
    } else if name.eq(intern!(py, "sysconfig"))? {
        with_known_paths(state, py, body)
    } else {
        body()
    }
}

/// Tells `pkgutil`, if it is there, to ask our finder for the modules of a folder: it treats every
/// `FileFinder` alike and would list the disk.
pub(crate) fn register(state: &State, py: Python<'_>) -> PyResult<()> {
    let modules = state.machinery.sys.bind(py).getattr("modules")?;
    let Ok(pkgutil) = modules.get_item("pkgutil") else {
        return Ok(());
    };
    let iterate = py.get_type::<FolderMethods>().getattr("iter_modules")?;
    pkgutil
        .getattr("iter_importer_modules")?
        .call_method1("register", (&state.machinery.folder, iterate))?;
    Ok(())
}

/// Runs `body` with an `os.path` whose `realpath` and `isfile` know the claimed paths. `sysconfig`
/// keeps this `realpath` for its later questions; everybody else gets the original ones back.
fn with_known_paths(
    state: &'static State,
    py: Python<'_>,
    body: impl FnOnce() -> PyResult<()>,
) -> PyResult<()> {
    let path = py.import("os")?.getattr("path")?;
    let replace = |name: &str, known: fn(&State, &OsStr) -> Option<Known>| -> PyResult<Py<PyAny>> {
        let original = path.getattr(name)?.unbind();
        let ask = original.clone_ref(py);
        let answer = move |arguments: &Bound<'_, PyTuple>, keywords: Option<&Bound<'_, PyDict>>| {
            guard(|| {
                let py = arguments.py();
                if let Ok(path) = arguments.get_item(0)
                    && let Ok(path) = path.extract::<OsString>()
                {
                    match known(state, &path) {
                        Some(Known::Path(path)) => {
                            return Ok(path.into_pyobject(py)?.into_any().unbind());
                        }
                        Some(Known::Flag(flag)) => {
                            return Ok(flag.into_pyobject(py)?.to_owned().into_any().unbind());
                        }
                        None => {}
                    }
                }
                ask.call(py, arguments, keywords)
            })
        };
        path.setattr(name, PyCFunction::new_closure(py, None, None, answer)?)?;
        Ok(original)
    };
    let realpath = replace("realpath", State::known_realpath)?;
    let isfile = replace("isfile", State::known_isfile)?;
    let result = body();
    path.setattr("realpath", realpath)?;
    path.setattr("isfile", isfile)?;
    result
}

/// An answer without looking.
enum Known {
    Path(OsString),
    Flag(bool),
}

impl State {
    /// The real path of the interpreter, or of a path below an original root.
    fn known_realpath(&self, path: &OsStr) -> Option<Known> {
        if self.machinery.executable.as_deref() == Some(path) {
            let program = std::fs::read_link("/proc/self/exe").ok()?;
            // Another program may run the interpreter: a debugger, an embedding one.
            let name = program.file_name()?.as_bytes();
            return name
                .starts_with(b"python")
                .then(|| Known::Path(program.into()));
        }
        let inside = self.claims.claim(path.as_bytes())?.inside;
        let index = self.image.index();
        let direct = index.find(&inside).is_some() || self.resolve(&inside) == Place::Absent;
        let (real, rest) = self.originals(&inside).last()?;
        direct.then(|| {
            let path = claims::join(real.as_bytes(), rest);
            Known::Path(OsStr::from_bytes(&path).to_owned())
        })
    }

    /// Is there a file at a path below an original root?
    fn known_isfile(&self, path: &OsStr) -> Option<Known> {
        let inside = self.claims.claim(path.as_bytes())?.inside;
        Some(Known::Flag(matches!(self.resolve(&inside), Place::File(_))))
    }
}
