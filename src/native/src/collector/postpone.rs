//! Collections postponed while imports go on.
//!
//! Nothing of the collector's settings is touched. CPython calls the functions in `gc.callbacks`
//! around each collection; ours sets all objects aside when an automatic one begins (`gc.freeze`,
//! which hooks one list into another) and gives them back when it ends, so that it finds nothing to
//! traverse. The same calls are the clock by which postponing ends: no thread, no timer, no signal.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::{
    sys::resource::{UsageWho, getrusage},
    unistd::{SysconfVar, sysconf},
};
use pyo3::{
    intern,
    prelude::*,
    types::{PyDict, PyList},
};

use super::Gc;
use crate::importer::{guard, quiet_for};

/// Longest time without a new import.
const QUIET: Duration = Duration::from_secs(2);

/// Most new objects.
const OBJECTS: u64 = 2_000_000;

/// Most bytes by which the process's own memory may grow.
const MEMORY: u64 = 256 << 20;

/// Growth of the process's whole memory from one exact look to the next.
const LOOK: u64 = 32 << 20;

/// While collections are postponed.
static POSTPONED: Mutex<Option<Postponed>> = Mutex::new(None);

struct Postponed {
    gc: Arc<Gc>,
    /// Objects that started a collection when the program began.
    threshold: u64,
    /// The objects are set aside at this moment.
    aside: bool,
    /// New objects so far.
    objects: u64,
    /// The process's own memory at the beginning.
    memory: u64,
    /// The whole memory with which its own is looked at again.
    look: u64,
}

/// Postpones from now on.
pub(super) fn begin(py: Python<'_>, gc: Arc<Gc>) -> PyResult<()> {
    if !gc.is_left_alone(py)? {
        return Ok(());
    }
    let (Some(memory), Some(peak)) = (own_memory(), peak_memory()) else {
        return Ok(());
    };
    let postponed = Postponed {
        threshold: gc.youngest(py)?.1,
        gc,
        aside: false,
        objects: 0,
        memory,
        look: peak.saturating_add(MEMORY),
    };
    // Nobody else holds it: there is one installation a process.
    if let Ok(mut place) = POSTPONED.lock() {
        *place = Some(postponed);
    }
    let callbacks = py
        .import("gc")?
        .getattr("callbacks")?
        .cast_into::<PyList>()?;
    callbacks.append(wrap_pyfunction!(collecting, py)?)
}

/// No longer postpones; what was set aside is given back.
pub(super) fn end(py: Python<'_>) -> PyResult<()> {
    let ended = POSTPONED.try_lock().ok().and_then(|mut place| place.take());
    match ended {
        Some(ended) if ended.aside => ended.gc.unfreeze.call0(py).map(drop),
        _ => Ok(()),
    }
}

/// Called by CPython when a collection begins and when it ends.
#[pyfunction]
#[pyo3(name = "postpone")]
fn collecting(phase: &Bound<'_, PyAny>, _information: &Bound<'_, PyDict>) -> PyResult<()> {
    guard(|| {
        let py = phase.py();
        // A collection in a forked child of a thread that held it: as if nothing were postponed.
        let Ok(mut place) = POSTPONED.try_lock() else {
            return Ok(());
        };
        let Some(postponed) = place.as_mut() else {
            return Ok(());
        };
        if !phase.eq(intern!(py, "start"))? {
            return postponed.give_back(py);
        }
        let (made, threshold) = postponed.gc.youngest(py)?;
        // The program itself collects.
        if made <= threshold || !postponed.gc.is_enabled(py)? {
            return Ok(());
        }
        if postponed.is_over(py, made, threshold)? {
            *place = None;
            return Ok(());
        }
        postponed.set_aside(py)
    })
}

impl Postponed {
    fn set_aside(&mut self, py: Python<'_>) -> PyResult<()> {
        self.gc.freeze.call0(py)?;
        self.aside = true;
        Ok(())
    }

    fn give_back(&mut self, py: Python<'_>) -> PyResult<()> {
        if std::mem::take(&mut self.aside) {
            self.gc.unfreeze.call0(py)?;
        }
        Ok(())
    }

    fn is_over(&mut self, py: Python<'_>, made: u64, threshold: u64) -> PyResult<bool> {
        self.objects += made;
        if threshold != self.threshold
            || self.objects >= OBJECTS
            || quiet_for() >= QUIET
            || !self.gc.is_left_alone(py)?
        {
            return Ok(true);
        }
        // One system call, and more of them only when much has come, of files too.
        let Some(peak) = peak_memory() else {
            return Ok(true);
        };
        if peak < self.look {
            return Ok(false);
        }
        self.look = peak.saturating_add(LOOK);
        Ok(own_memory().is_none_or(|now| now.saturating_sub(self.memory) >= MEMORY))
    }
}

/// The most bytes of memory that this process has had so far, of files too.
fn peak_memory() -> Option<u64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    u64::try_from(usage.max_rss()).ok()?.checked_mul(1024)
}

/// Bytes of memory of this process that no file is behind.
fn own_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = text.split_ascii_whitespace().map(str::parse::<u64>);
    let resident = pages.nth(1)?.ok()?;
    let shared = pages.next()?.ok()?;
    let page = u64::try_from(sysconf(SysconfVar::PAGE_SIZE).ok()??).ok()?;
    Some(resident.saturating_sub(shared) * page)
}
