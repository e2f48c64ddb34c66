//! Starts and ends MPI, whoever else does so too.
//!
//! What is ours inside MPI (communicators, calls under way, a reduction) is completed and freed
//! when MPI_COMM_SELF loses an attribute, which is the first thing that `MPI_Finalize` does. So the
//! program may finalise whenever it likes. A forked child shares its parent's memory but not its
//! place in the job: there, nothing is finalised or aborted.

#![expect(unsafe_code, reason = "calls MPI, and is called by it")]

use std::{
    ffi::{c_char, c_int, c_void},
    mem, panic, process, ptr,
    sync::atomic::{
        AtomicBool, AtomicI32, AtomicU32,
        Ordering::{Relaxed, SeqCst},
    },
    time::Duration,
};

use mpi::ffi;

use crate::{
    failure::{Failure, Result, SUCCESS, TEXT, check},
    groups,
    interface::Started,
    lowest, requests,
};

/// Longest wait at MPI's end for calls of ours that nobody has waited for.
const LAST_WAIT: Duration = Duration::from_secs(30);

/// We have initialised MPI, and nobody has finalised it yet.
static OURS: AtomicBool = AtomicBool::new(false);

/// The program has initialised MPI a second time and was told that it went well.
static ANSWERED: AtomicBool = AtomicBool::new(false);

/// We have finalised MPI.
static ENDED: AtomicBool = AtomicBool::new(false);

/// The thread level in force, as MPI counts.
static LEVEL: AtomicI32 = AtomicI32::new(0);

/// The process that called [`start`]; 0 before.
static PROCESS: AtomicU32 = AtomicU32::new(0);

type InitThread =
    unsafe extern "C" fn(*mut c_int, *mut *mut *mut c_char, c_int, *mut c_int) -> c_int;

/// Initialises MPI unless the program has done so. Who asks again in the same process gets the
/// same answer.
pub(crate) fn start() -> Result<Started> {
    if finalised() {
        return Err(Failure(
            "the program has finalised MPI before the bundle was loaded".into(),
        ));
    }
    if in_own_process() {
        return started(OURS.load(SeqCst));
    }
    let here = !flag(ffi::MPI_Initialized);
    // SAFETY: reads constants that the linker initialises.
    let (own, multiple) = unsafe { (ffi::RSMPI_COMM_SELF, ffi::RSMPI_THREAD_MULTIPLE) };
    let mut level = multiple;
    if here {
        let initialise = initialise();
        // SAFETY: `level` is writable for the call; MPI needs no arguments.
        let code =
            unsafe { initialise(ptr::null_mut(), ptr::null_mut(), multiple, &raw mut level) };
        check("MPI_Init_thread", code)?;
    } else {
        // SAFETY: `level` is writable for the call.
        check("MPI_Query_thread", unsafe {
            ffi::MPI_Query_thread(&raw mut level)
        })?;
    }
    LEVEL.store(level, SeqCst);
    PROCESS.store(process::id(), SeqCst);
    OURS.store(here, SeqCst);
    let mut key = 0;
    // SAFETY: the two functions have MPI's types, and live as long as the process.
    check("MPI_Comm_create_keyval", unsafe {
        ffi::MPI_Comm_create_keyval(Some(no_copy), Some(clean), &raw mut key, ptr::null_mut())
    })?;
    // SAFETY: the key was made above; the attribute's value is not used.
    check("MPI_Comm_set_attr", unsafe {
        ffi::MPI_Comm_set_attr(own, key, ptr::null_mut())
    })?;
    // SAFETY: the key lives on in the attribute.
    check("MPI_Comm_free_keyval", unsafe {
        ffi::MPI_Comm_free_keyval(&raw mut key)
    })?;
    started(here)
}

/// This process's place in the job.
fn started(here: bool) -> Result<Started> {
    // SAFETY: reads a constant that the linker initialises.
    let world = unsafe { ffi::RSMPI_COMM_WORLD };
    let (mut rank, mut size) = (0, 0);
    // SAFETY: both are writable for the call.
    check("MPI_Comm_rank", unsafe {
        ffi::MPI_Comm_rank(world, &raw mut rank)
    })?;
    // SAFETY: as above.
    check("MPI_Comm_size", unsafe {
        ffi::MPI_Comm_size(world, &raw mut size)
    })?;
    Ok(Started {
        rank: rank.unsigned_abs(),
        size: size.unsigned_abs(),
        thread_level: level_number(level()),
        initialised_here: here.into(),
    })
}

/// `MPI_Init_thread` as the program would find it: a measuring tool that was loaded before us
/// wants to see it. Without one that is our own, which passes on to the library.
fn initialise() -> InitThread {
    // SAFETY: looks up a name in this process.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"MPI_Init_thread".as_ptr()) };
    if found.is_null() {
        return ffi::PMPI_Init_thread;
    }
    // SAFETY: every function of this name has this type.
    unsafe { mem::transmute::<*mut c_void, InitThread>(found) }
}

/// Whether a second initialisation by the program is to be answered with success: the first one
/// after ours is. A program that does it twice itself hears from MPI as it would without us.
pub(crate) fn answers_init() -> bool {
    OURS.load(SeqCst) && in_own_process() && !ANSWERED.swap(true, SeqCst)
}

/// Says what is wrong when the program initialises MPI after we have finalised it; the library
/// says only that this cannot be done.
pub(crate) fn explain_init() {
    if in_own_process() && finalised() && ENDED.load(SeqCst) {
        eprintln!(
            "pybundle: this program initialises MPI, which pybundle has released before it: set \
             `PYBUNDLE_MPI=keep`"
        );
    }
}

/// The thread level that was granted to us.
pub(crate) fn level() -> c_int {
    LEVEL.load(SeqCst)
}

/// Finalises MPI if we have initialised it; else frees what is ours and leaves the end to the
/// program. Nothing when MPI has ended, or in a forked child.
pub(crate) fn finalise() -> Result<()> {
    if !in_own_process() || !flag(ffi::MPI_Initialized) || finalised() {
        return Ok(());
    }
    if OURS.load(SeqCst) {
        // SAFETY: MPI runs, and this process is the one that initialised it.
        check("MPI_Finalize", unsafe { ffi::MPI_Finalize() })?;
        ENDED.store(true, SeqCst);
        Ok(())
    } else {
        release()
    }
}

/// Ends the job, if MPI can do it.
pub(crate) fn abort(status: c_int) -> Result<()> {
    if !in_own_process() || !flag(ffi::MPI_Initialized) || finalised() {
        return Err(Failure("MPI does not run here".to_owned()));
    }
    // SAFETY: MPI runs.
    check("MPI_Abort", unsafe {
        ffi::MPI_Abort(ffi::RSMPI_COMM_WORLD, status)
    })
}

/// The library's version text.
pub(crate) fn library() -> Result<String> {
    let mut text = [0_u8; TEXT];
    let mut length = 0;
    // SAFETY: the buffer is as long as the longest MPI_MAX_LIBRARY_VERSION_STRING.
    check("MPI_Get_library_version", unsafe {
        ffi::MPI_Get_library_version(text.as_mut_ptr().cast(), &raw mut length)
    })?;
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// Completes and frees what is ours.
fn release() -> Result<()> {
    requests::complete_all(LAST_WAIT)?;
    let reduction = lowest::free();
    groups::free_all().and(reduction)
}

/// MPI's callback when MPI_COMM_SELF loses our attribute: MPI is about to end.
unsafe extern "C" fn clean(_: ffi::MPI_Comm, _: c_int, _: *mut c_void, _: *mut c_void) -> c_int {
    OURS.store(false, SeqCst);
    let released = panic::catch_unwind(release);
    if !matches!(released, Ok(Ok(()))) {
        let text = match released {
            Ok(Err(Failure(text))) => text,
            _ => "a panic".to_owned(),
        };
        eprintln!("error: MPI can't be finalised: {text}");
        // MPI would wait for ever for what we could not complete.
        // SAFETY: MPI still runs.
        return unsafe { ffi::MPI_Abort(ffi::RSMPI_COMM_WORLD, 1) };
    }
    SUCCESS
}

/// MPI's callback when MPI_COMM_SELF is duplicated: our attribute stays behind.
unsafe extern "C" fn no_copy(
    _: ffi::MPI_Comm,
    _: c_int,
    _: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
    copied: *mut c_int,
) -> c_int {
    // SAFETY: MPI gives a valid pointer.
    unsafe { *copied = 0 };
    SUCCESS
}

fn in_own_process() -> bool {
    PROCESS.load(Relaxed) == process::id()
}

fn finalised() -> bool {
    flag(ffi::MPI_Finalized)
}

fn flag(function: unsafe extern "C" fn(*mut c_int) -> c_int) -> bool {
    let mut flag = 0;
    // SAFETY: `flag` is writable; these functions may be called at any time.
    unsafe { function(&raw mut flag) };
    flag != 0
}

fn level_number(level: c_int) -> u32 {
    // SAFETY: reads constants that the linker initialises.
    let levels = unsafe {
        [
            ffi::RSMPI_THREAD_SINGLE,
            ffi::RSMPI_THREAD_FUNNELED,
            ffi::RSMPI_THREAD_SERIALIZED,
        ]
    };
    levels
        .iter()
        .position(|&known| known == level)
        .unwrap_or(levels.len()) as u32
}
