//! How a rank leaves its job: the receipt is written, the node image is given back, MPI is
//! finalised, or the job aborted if the program failed.
//!
//! A process has several ways out: [`hooks`] are called when the interpreter ends and when the
//! process exits, [`patches`] stand in for `os._exit` and `os.exec*`. Whichever comes first does
//! the work; only in the process that joined, never in a child forked from it.

mod hooks;
mod janitor;
mod launcher;
mod patches;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI32, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use pybundle_load::{Job, transport::plugin};
use pyo3::{
    exceptions::{PyKeyboardInterrupt, PySystemExit},
    intern,
    prelude::*,
};

use crate::importer;
pub(crate) use launcher::LauncherSocket;

/// Longest time that a failed rank's exit functions may take in a job: they may wait for ranks
/// that wait for this one.
const GRACE: Duration = Duration::from_secs(5);

/// Status of a program that was interrupted, as shells count.
pub(crate) const INTERRUPTED: i32 = 128 + libc::SIGINT;

static PROCESS: OnceLock<Process> = OnceLock::new();

/// The status of a failed program, known before the process exits; 0 until then.
static FAILED: AtomicI32 = AtomicI32::new(0);

static LEFT: AtomicBool = AtomicBool::new(false);

/// What MPI is to this process.
#[derive(Debug)]
pub(crate) enum Mpi {
    /// Never started by us: a single process, a child, or `PYBUNDLE_MPI=off`.
    None,
    /// Ours to finalise at the end.
    Keep,
    /// Initialised by the program, which finalises it as well.
    Theirs,
    /// Finalised before the program's first line.
    Released,
}

/// What this process has to give back.
pub(crate) struct Process {
    /// `None` where the node fell back to the environment.
    pub(crate) image: Option<Arc<pybundle_load::Image>>,
    /// `None` in children.
    pub(crate) job: Option<Arc<Job>>,
    pub(crate) mpi: Mpi,
    /// A way to speak to the launcher after MPI has ended.
    pub(crate) launcher: Option<LauncherSocket>,
    /// A process of this rank that may start other programs after this one.
    pub(crate) wrapper: Option<u32>,
}

/// Watches the ways out of this process. Once, before any of the program's code.
pub(crate) fn watch(py: Python<'_>, process: Process) -> PyResult<()> {
    if PROCESS.set(process).is_err() {
        return Ok(());
    }
    hooks::register();
    patches::install(py)
}

/// Whether this process has joined or attached, itself and not its parent.
pub(crate) fn is_watched() -> bool {
    this_process().is_some()
}

/// In a forked child: its image has a lock of its own from now on.
pub(crate) fn forked() {
    if let Some(image) = PROCESS.get().and_then(|process| process.image.as_ref()) {
        // The image has vanished: code goes on, and the next file needed is a named error.
        let _ = image.forked();
    }
}

/// What this process has to give back; `None` in a forked child.
fn this_process() -> Option<&'static Process> {
    hooks::in_registered_process().then(|| PROCESS.get())?
}

/// Ends `python -m pybundle run`: prints what the program raised as Python does, keeps the status
/// for the job, and gives what `__main__` should raise.
///
/// # Errors
/// `SystemExit`, unless the program ended without an exception.
pub(crate) fn finish(py: Python<'_>, outcome: PyResult<()>) -> PyResult<()> {
    let Err(error) = outcome else { return Ok(()) };
    if error.is_instance_of::<PySystemExit>(py) {
        let status = status_of(&error.value(py).getattr(intern!(py, "code"))?);
        failing(py, status);
        return Err(error);
    }
    let interrupted = error.is_instance_of::<PyKeyboardInterrupt>(py);
    importer::place_sources(py, &error);
    // Calls `sys.excepthook`, and exits if that raises SystemExit.
    error.print_and_set_sys_last_vars(py);
    failing(py, if interrupted { INTERRUPTED } else { 1 });
    Err(PySystemExit::new_err(if interrupted {
        INTERRUPTED
    } else {
        1
    }))
}

/// The process status that Python makes of `SystemExit.code`.
fn status_of(code: &Bound<'_, PyAny>) -> i32 {
    if code.is_none() {
        return 0;
    }
    match code.cast::<pyo3::types::PyInt>() {
        // The system keeps the lowest byte; numbers beyond C's are -1 to Python.
        Ok(number) => number
            .extract::<i64>()
            .map_or(255, |number| (number & 0xff) as i32),
        Err(_) => 1,
    }
}

/// Ends this process and its job after a failure of ours, before the program has begun.
pub(crate) fn fail_at_once(status: i32) -> ! {
    FAILED.store(status, SeqCst);
    // The handlers do the rest, once they are registered.
    hooks::exit_now(status)
}

/// Notes that the program has failed: what follows is the interpreter's end, and for a rank of a
/// job not an endless one.
pub(crate) fn failing(py: Python<'_>, status: i32) {
    if status == 0 {
        return;
    }
    FAILED.store(status, SeqCst);
    flush(py);
    let mpi = this_process().map(|process| &process.mpi);
    if !matches!(mpi, Some(Mpi::Keep)) {
        tell_mpi4py(py, status);
    }
    if matches!(mpi, Some(Mpi::Keep | Mpi::Theirs)) && hooks::mpi_runs() {
        let spawned = thread::Builder::new()
            .name("pybundle-exit".to_owned())
            .spawn(move || {
                thread::sleep(GRACE);
                eprintln!(
                    "pybundle: this rank has failed, and its exit functions take more than {} s: \
                     the job is aborted",
                    GRACE.as_secs()
                );
                end_job(status);
            });
        // Without a thread the exit functions take what they take.
        drop(spawned);
    }
}

/// Where mpi4py has initialised MPI itself, it finalises it too, and then has to know.
fn tell_mpi4py(py: Python<'_>, status: i32) {
    let told = || -> PyResult<()> {
        let modules = py.import("sys")?.getattr("modules")?;
        let mpi = modules.call_method1("get", ("mpi4py.MPI",))?;
        if let Some(set) = mpi.getattr_opt("_set_abort_status")? {
            set.call1((status,))?;
        }
        Ok(())
    };
    // An older mpi4py doesn't have it.
    let _ = told();
}

/// Writes what the program has printed.
fn flush(py: Python<'_>) {
    for name in ["stdout", "stderr"] {
        let stream = py.import("sys").and_then(|sys| sys.getattr(name));
        // The interpreter flushes again at its end, and tells of errors.
        let _ = stream.and_then(|stream| stream.call_method0("flush"));
    }
}

/// What becomes of the node image when this process leaves it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Share {
    /// The last one out removes it.
    Leave,
    /// It stays as it is: the job is about to be aborted, or another Python takes over.
    Abandon,
}

/// Gives the receipt's part and the image back, once.
fn leave(process: &Process, what: Share) {
    if LEFT.swap(true, SeqCst) {
        return;
    }
    if let Some(job) = &process.job {
        job.leave();
    }
    if what == Share::Leave
        && let Some(image) = &process.image
    {
        image.leave();
    }
}

/// As [`leave`], for a process that ends with `status`. Of a job that is aborted, the janitor
/// removes the image: this process may be killed at any moment.
fn leave_with(process: &Process, status: i32) {
    let aborts = status != 0 && !matches!(process.mpi, Mpi::None);
    leave(process, if aborts { Share::Abandon } else { Share::Leave });
}

/// The end of the interpreter.
fn interpreter_ends() {
    let Some(process) = this_process() else {
        return;
    };
    let status = FAILED.load(SeqCst);
    if status != 0 {
        // Before mpi4py's own handler, which would wait for the other ranks.
        leave_with(process, status);
        end_job(status);
    } else if matches!(process.mpi, Mpi::None) {
        // Python may end itself by a signal, without C's handlers.
        leave(process, Share::Leave);
    }
}

/// The end of the process: `status` is what its parent will see.
fn process_ends(status: i32) {
    let Some(process) = this_process() else {
        return;
    };
    leave_with(process, status & 0xff);
    end_mpi(process, status & 0xff);
    if FAILED.load(SeqCst) == INTERRUPTED {
        // What Python does, so that shells and launchers see an interrupt.
        hooks::die_of_interrupt();
    }
    if status == 0
        && let (Some(wrapper), Some(launcher)) = (process.wrapper, &process.launcher)
        && !hooks::mpi_runs()
        && launcher.leave_guard(wrapper)
    {
        // Past the handler by which MPICH would take leave for all that the wrapper starts.
        hooks::flush_and_end(status);
    }
    if let Some(launcher) = &process.launcher {
        launcher.end();
    }
}

/// Takes leave of the launcher where MPI's own handlers won't: now, or when process `last` has
/// ended.
fn take_leave(process: &Process, last: Option<u32>) {
    if let Some(launcher) = &process.launcher
        && !hooks::mpi_runs()
        && !last.is_some_and(|last| launcher.leave_guard(last))
    {
        launcher.take_leave();
    }
}

/// Ends MPI as `status` demands; comes back unless that aborts the job.
fn end_mpi(process: &Process, status: i32) {
    if status != 0 {
        end_job(status);
    } else if matches!(process.mpi, Mpi::Keep)
        && let Err(error) = plugin::finalise_now()
    {
        eprintln!("error: {error}");
    }
}

/// Ends the whole job with `status`, by MPI or, where that has ended, by its launcher. Comes back
/// if neither is there, or if the launcher ends the job when it sees the status.
fn end_job(status: i32) {
    let Some(process) = this_process() else {
        return;
    };
    if matches!(process.mpi, Mpi::None) {
        return;
    }
    if let Some(image) = &process.image {
        janitor::leave_behind(image.dir());
    }
    if hooks::mpi_runs() {
        plugin::abort_now(status);
    }
    if let Some(launcher) = &process.launcher {
        launcher.abort(status);
    }
}
