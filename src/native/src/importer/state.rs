//! What one process knows of its node image, shared by finder and loaders.
//!
//! There is one bundle a process; the state lives as long as the process does.

use std::{
    collections::HashSet,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use pybundle_bundle::record::{Module, some};
use pybundle_load::{Counters, Image, Job};
use pyo3::{exceptions::PyRuntimeError, prelude::*, types::PyDict};

use super::{claims::Claims, copies::Copies, guard::import_error, library, machinery::Machinery};
use crate::program::Files;

static STATE: OnceLock<State> = OnceLock::new();

/// The node image and what was done with it.
pub(crate) struct State {
    pub(crate) image: Arc<Image>,
    pub(crate) job: Option<Arc<Job>>,
    pub(crate) claims: Claims,
    pub(crate) machinery: Machinery,
    /// The program's own modules, if root has sent them.
    pub(crate) files: Option<Files>,
    /// The tree's path, without `/` at its end.
    pub(crate) tree: String,
    /// Names in folders that the bundle doesn't answer for: path to set, see [`super::listing`].
    pub(crate) listings: Py<PyDict>,
    /// The folder of the running interpreter's own extension modules, if those of the bundle are
    /// served in their place.
    pub(crate) own_extensions: OnceLock<OsString>,
    /// The packed code is of this interpreter's optimisation level.
    pub(crate) packed_level: bool,
    /// `importlib.invalidate_caches()` was called: the disk may know more than the bundle.
    open: AtomicBool,
    /// importlib's loader of namespace packages has been taught to place files.
    pub(crate) namespaces: AtomicBool,
    /// Entries of the libraries that this process has opened.
    libraries: Mutex<HashSet<u32>>,
    /// Copies of them and of extension modules, where files of the node can't be executed.
    copies: Copies,
}

impl State {
    pub(crate) fn new(
        py: Python<'_>,
        image: Arc<Image>,
        job: Option<Arc<Job>>,
        claims: Claims,
        tree: String,
        files: Option<Files>,
    ) -> PyResult<Self> {
        let machinery = Machinery::new(py)?;
        Ok(Self {
            packed_level: image.manifest().optimize.first() == Some(&machinery.optimize),
            machinery,
            listings: PyDict::new(py).unbind(),
            own_extensions: OnceLock::new(),
            open: AtomicBool::new(false),
            namespaces: AtomicBool::new(false),
            libraries: Mutex::default(),
            copies: Copies::default(),
            image,
            job,
            claims,
            files,
            tree,
        })
    }

    /// Makes this the process's state.
    pub(crate) fn publish(self) -> PyResult<&'static Self> {
        if STATE.set(self).is_err() {
            return Err(PyRuntimeError::new_err(
                "a bundle is already installed in this process",
            ));
        }
        Self::get()
    }

    /// The process's state.
    pub(crate) fn get() -> PyResult<&'static Self> {
        STATE
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("no bundle is installed in this process"))
    }

    /// May the disk know more than the bundle?
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// From now on, the disk may know more than the bundle.
    pub(crate) fn open(&self, py: Python<'_>) {
        self.open.store(true, Ordering::Relaxed);
        self.listings.bind(py).clear();
    }

    /// The path of the tree for a path inside the bundle.
    pub(crate) fn tree_path(&self, inside: &[u8]) -> PathBuf {
        use std::os::unix::ffi::OsStrExt as _;
        let mut path = PathBuf::from(&self.tree);
        if !inside.is_empty() {
            path.push(std::ffi::OsStr::from_bytes(inside));
        }
        path
    }

    /// Was this module of a folder left out of the bundle on purpose? Then the disk has it.
    pub(crate) fn is_left_out(&self, folder: &[u8], tail: &str) -> bool {
        self.left_out_of(folder).any(|name| name == tail)
    }

    /// The modules of a folder that were left out of the bundle on purpose.
    pub(crate) fn left_out_of<'a>(&'a self, folder: &'a [u8]) -> impl Iterator<Item = &'a str> {
        let paths = self.image.manifest().left_out.iter();
        let parts = paths.filter_map(|path| path.rsplit_once('/'));
        let inside = parts.filter(move |(above, _)| above.as_bytes() == folder);
        inside.map(|(_, name)| name)
    }

    /// Makes sure that what a module needs beside its code is in the tree.
    ///
    /// # Errors
    /// An `ImportError` that names the module and what is in the way.
    pub(crate) fn place_group(&self, py: Python<'_>, module: &Module, path: &str) -> PyResult<()> {
        let Some(group) = some(module.group) else {
            return Ok(());
        };
        if self.image.is_placed(group) {
            return Ok(());
        }
        py.detach(|| self.image.place(group))
            .map_err(|error| import_error(py, &error, self.name_of(module), path))
    }

    /// Opens the libraries that an extension module needs, each once.
    ///
    /// A library that can't be opened is left to the dynamic linker: it looks for it again when the
    /// module is opened, and its message then is the one that CPython gives.
    ///
    /// # Errors
    /// An `ImportError` if a library can't be placed.
    pub(crate) fn open_libraries(
        &self,
        py: Python<'_>,
        module: &Module,
        path: &str,
    ) -> PyResult<()> {
        let index = self.image.index();
        for entry in index.needs(module.file) {
            if self.opened().contains(&entry) {
                continue;
            }
            let file = py
                .detach(|| self.image.place_entry(entry))
                .map_err(|error| import_error(py, &error, self.name_of(module), path))?;
            let _ = self.native_file(&file).map(|file| library::open(&file));
            // Only now: another thread must not go on without it.
            self.opened().insert(entry);
        }
        Ok(())
    }

    /// What the dynamic linker is given for an extension module or a library of the tree: the file
    /// itself, or a copy in memory where the node executes no files.
    ///
    /// # Errors
    /// What is in the way of a copy.
    pub(crate) fn native_file(&self, file: &Path) -> io::Result<PathBuf> {
        if self.image.is_executable() {
            return Ok(file.to_owned());
        }
        self.copies.of(file)
    }

    fn opened(&self) -> MutexGuard<'_, HashSet<u32>> {
        self.libraries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The last part of a module's name, for messages.
    pub(crate) fn name_of(&self, module: &Module) -> &str {
        std::str::from_utf8(self.image.index().text(module.name)).unwrap_or("?")
    }

    /// Counts for the receipt, if somebody does.
    pub(crate) fn count(&self, which: impl FnOnce(&Counters) -> &AtomicU64) {
        if let Some(job) = &self.job {
            which(job.count()).fetch_add(1, Ordering::Relaxed);
        }
    }
}
