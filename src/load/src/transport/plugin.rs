//! Opens an MPI transport plug-in and wraps its C table in safe calls.
//!
//! One plug-in a process, opened with global symbol scope (Open MPI's own plug-ins need it, and it
//! is how the program's `MPI_Init` finds ours) and never closed. [`finalise_now`] and [`abort_now`]
//! need nothing but the process, so they serve when the interpreter is gone.

#![expect(
    unsafe_code,
    reason = "calls the C functions of a library opened at run time"
)]

use std::{
    ffi::c_int,
    fmt,
    mem::ManuallyDrop,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError, mpsc},
    thread,
};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use super::{
    Error, Flavour, Result, Wait,
    interface::{GetTable, OK, SYMBOL, Started, Table, VERSION},
    mapped, watch,
};

/// The plug-in of this process.
static LOADED: OnceLock<Plugin> = OnceLock::new();

/// A loaded plug-in whose table has the right version.
pub struct Plugin {
    path: PathBuf,
    pub(super) table: &'static Table,
    flavour: Flavour,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Plugin {
    /// Loads the plug-in at `path` and with it its MPI library, without starting MPI. A second
    /// call gives the same one.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::NotPlugin`], [`Error::Version`], [`Error::Loaded`],
    /// [`Error::TwoLibraries`].
    pub fn load(path: &Path) -> Result<&'static Self> {
        static LOADING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
        let plugin = match LOADED.get() {
            Some(plugin) => plugin,
            None => LOADED.get_or_init({
                let plugin = Self::open(path)?;
                || plugin
            }),
        };
        if plugin.path == path {
            Ok(plugin)
        } else {
            Err(Error::Loaded {
                path: plugin.path.clone(),
            })
        }
    }

    fn open(path: &Path) -> Result<Self> {
        // SAFETY: loading runs the initialisers of the plug-in and of MPI, which have no
        // preconditions.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
        let library = library.map_err(|error| Error::Open {
            path: path.to_owned(),
            reason: reason(&error, path),
        })?;
        // Never closed: MPI does not survive it, and `table` points into it.
        let library = ManuallyDrop::new(library);
        // SAFETY: a library that exports this name exports it with this type.
        let get_table =
            unsafe { library.get::<GetTable>(SYMBOL) }.map_err(|_| Error::NotPlugin {
                path: path.to_owned(),
            })?;
        // SAFETY: the function has no preconditions.
        let table = unsafe { get_table() };
        // SAFETY: the pointer is null or to a table that lives as long as the library.
        let table = unsafe { checked_table(table, path) }?;
        let not_plugin = || Error::NotPlugin {
            path: path.to_owned(),
        };
        let name = std::str::from_utf8(&table.flavour).map_err(|_| not_plugin())?;
        let flavour = Flavour::from_plugin_name(name).ok_or_else(not_plugin)?;
        if let [first, second, ..] = mapped::libraries()?.as_slice() {
            let (first, second) = (first.path.clone(), second.path.clone());
            return Err(Error::TwoLibraries { first, second });
        }
        Ok(Self {
            path: path.to_owned(),
            table,
            flavour,
        })
    }

    /// The plug-in's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The family of MPI libraries it was built for.
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// Starts MPI, or finds it started.
    ///
    /// No deadline can interrupt `MPI_Init`, which waits for all processes of the job, so a
    /// thread watches it: when the wait's timeout passes, it writes the message to stderr and
    /// ends this process with status 1, which ends the job.
    pub(super) fn start(&self, wait: &Wait<'_>) -> Result<Started> {
        let (started, ended) = mpsc::channel::<()>();
        let timeout = wait.timeout;
        // Where no thread can be made there is no watch, and MPI is better off without one.
        let watch = thread::Builder::new()
            .name("pybundle-start".to_owned())
            .spawn(move || watch::watch(&ended, timeout))
            .ok();
        let mut answer = Started::default();
        // SAFETY: `answer` is writable for the call.
        let status = unsafe { (self.table.start)(&raw mut answer) };
        drop(started);
        if let Some(watch) = watch {
            // It has nothing left to do but to end, and has no result.
            let _ = watch.join();
        }
        self.check(status)?;
        Ok(answer)
    }

    /// The library's version text.
    pub(super) fn library(&self) -> String {
        read_text(self.table.library)
    }

    pub(super) fn finalise(&self) -> Result<()> {
        // SAFETY: the plug-in checks the state that MPI is in.
        self.check(unsafe { (self.table.finalise)() })
    }

    pub(super) fn check(&self, status: c_int) -> Result<()> {
        if status == OK {
            return Ok(());
        }
        Err(Error::Mpi {
            text: read_text(self.table.last_error),
        })
    }
}

/// Finalises MPI if we started it and it still runs; nothing without a plug-in or in a forked
/// child. For the interpreter's exit functions. Gives the error's text.
///
/// # Errors
/// The MPI library's.
pub fn finalise_now() -> Result<()> {
    LOADED.get().map_or(Ok(()), Plugin::finalise)
}

/// The file of this process's plug-in, if one is loaded.
pub fn path() -> Option<&'static Path> {
    LOADED.get().map(Plugin::path)
}

/// Ends the whole job with `status`; only this process without MPI, or in a forked child.
pub fn abort_now(status: i32) -> ! {
    if let Some(plugin) = LOADED.get() {
        // SAFETY: the plug-in checks the state that MPI is in.
        unsafe { (plugin.table.abort)(status) };
    }
    // SAFETY: ends the process at once, with no handlers; what is unsaid was said before.
    unsafe { libc::_exit(status) }
}

/// Compares version and size before the rest of the table is looked at.
///
/// # Safety
/// `table` is null or points to a static table of whatever version, which begins with two `u32`.
unsafe fn checked_table(table: *const Table, path: &Path) -> Result<&'static Table> {
    if table.is_null() {
        return Err(Error::NotPlugin {
            path: path.to_owned(),
        });
    }
    // SAFETY: each version of the table begins with its version and its size.
    let [version, size] = unsafe { table.cast::<[u32; 2]>().read() };
    let expected = size_of::<Table>();
    if version != VERSION || size as usize != expected {
        return Err(Error::Version {
            path: path.to_owned(),
            expected: format!("{VERSION} ({expected} bytes)"),
            got: format!("{version} ({size} bytes)"),
        });
    }
    // SAFETY: it is this version's table and lives as long as the library, which is never closed.
    Ok(unsafe { &*table })
}

/// The dynamic linker's text without the path that the message names anyway.
fn reason(error: &libloading::Error, path: &Path) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    let text = source.unwrap_or_else(|| error.to_string());
    let prefix = format!("{}: ", path.display());
    text.strip_prefix(&prefix).unwrap_or(&text).to_owned()
}

fn read_text(function: unsafe extern "C" fn(*mut u8, usize) -> usize) -> String {
    let mut text = vec![0_u8; 8192];
    // SAFETY: the memory is writable, and at most as many bytes as it has are written.
    let length = unsafe { function(text.as_mut_ptr(), text.len()) };
    text.truncate(length.min(8192));
    String::from_utf8_lossy(&text).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_library_is_refused_with_the_linkers_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("_mpi_mpich.so");
        let text = |error: Error| error.to_string();
        let error = text(Plugin::load(&path).unwrap_err());
        assert!(error.contains("cannot open shared object file"), "{error}");
        fs_err::write(&path, "no library").unwrap();
        let error = text(Plugin::load(&path).unwrap_err());
        assert!(
            error.starts_with("cannot load the MPI transport: file too short"),
            "{error}"
        );
        assert!(
            error.ends_with(&format!(": `{}`", path.display())),
            "{error}"
        );
        let other = Path::new("libc.so.6");
        let error = text(Plugin::load(other).unwrap_err());
        assert_eq!(error, "not an MPI transport of pybundle: `libc.so.6`");
    }

    #[test]
    fn a_table_of_another_version_is_refused_by_name() {
        let path = Path::new("/p/_mpi_mpich.so");
        let foreign: [u32; 2] = [VERSION + 1, 8];
        // SAFETY: the table begins with its version and size, and no more of it is read.
        let error = unsafe { checked_table(foreign.as_ptr().cast(), path) }.map(|_| ());
        let error = error.unwrap_err().to_string();
        let expected = format!(
            "expected interface {VERSION} ({} bytes)",
            size_of::<Table>()
        );
        assert!(error.contains(&expected), "{error}");
        assert!(
            error.contains(&format!("got {} (8 bytes)", VERSION + 1)),
            "{error}"
        );
        // SAFETY: null is allowed.
        let error = unsafe { checked_table(std::ptr::null(), path) }
            .map(|_| ())
            .unwrap_err();
        assert!(matches!(error, Error::NotPlugin { .. }));
    }

    #[test]
    fn without_a_plugin_there_is_nothing_to_finalise() {
        finalise_now().unwrap();
    }
}
