//! The cyclic garbage collector, kept away from what imports leave behind.
//!
//! Imports make hundreds of thousands of objects that live as long as the process: modules,
//! functions, classes. Collecting over and over while they are made finds nothing, and taking them
//! apart at the end frees memory that the system is about to take back anyway. So collections are
//! postponed while imports go on ([`postpone`]), and the interpreter's last ones are left out where
//! there is nothing that they would finalise ([`ending`], [`inert`]).
//!
//! A program's own `gc` calls do what they always do. `PYBUNDLE_GC=keep` switches all of it off, and
//! so does a Python that was told to warn.

mod ending;
mod inert;
mod postpone;

use std::sync::Arc;

use pybundle_load::Settings;
use pyo3::{intern, prelude::*};

/// Begins to postpone, and looks at what is left when the program has ended.
pub(crate) fn install(py: Python<'_>, settings: &Settings) -> PyResult<()> {
    if settings.keep_gc || looks_for_faults(py)? {
        return Ok(());
    }
    let gc = Arc::new(Gc::new(py)?);
    postpone::begin(py, Arc::clone(&gc))?;
    ending::register(py, gc, settings.log)
}

/// Was Python told to warn (`-X dev`, `-W`)? Some warnings are about what was never closed: they
/// come when it is finalised, in the order in which that is done.
fn looks_for_faults(py: Python<'_>) -> PyResult<bool> {
    let sys = py.import(intern!(py, "sys"))?;
    if sys.getattr("flags")?.getattr("dev_mode")?.is_truthy()? {
        return Ok(true);
    }
    let options: Vec<String> = sys.getattr("warnoptions")?.extract()?;
    // An action may be shortened.
    let action = |option: &String| option.split(':').next().unwrap_or_default().to_owned();
    Ok(!options
        .iter()
        .map(action)
        .all(|action| "ignore".starts_with(&action)))
}

/// Fewer frozen objects than this are none that a program has frozen: that takes all there are.
const FEW: usize = 1000;

/// The functions of module `gc`, as they were when the program had not begun.
struct Gc {
    is_enabled: Py<PyAny>,
    get_count: Py<PyAny>,
    get_threshold: Py<PyAny>,
    get_freeze_count: Py<PyAny>,
    get_debug: Py<PyAny>,
    enable: Py<PyAny>,
    disable: Py<PyAny>,
    freeze: Py<PyAny>,
    unfreeze: Py<PyAny>,
    get_objects: Py<PyAny>,
    get_referents: Py<PyAny>,
    /// Objects that were frozen already: a few tuples of CPython 3.12's own.
    frozen: usize,
}

impl Gc {
    fn new(py: Python<'_>) -> PyResult<Self> {
        let gc = py.import(intern!(py, "gc"))?;
        let get = |name: &str| gc.getattr(name).map(Bound::unbind);
        let frozen = gc.call_method0("get_freeze_count")?.extract()?;
        Ok(Self {
            frozen: if frozen < FEW { frozen } else { 0 },
            is_enabled: get("isenabled")?,
            get_count: get("get_count")?,
            get_threshold: get("get_threshold")?,
            get_freeze_count: get("get_freeze_count")?,
            get_debug: get("get_debug")?,
            enable: get("enable")?,
            disable: get("disable")?,
            freeze: get("freeze")?,
            unfreeze: get("unfreeze")?,
            get_objects: get("get_objects")?,
            get_referents: get("get_referents")?,
        })
    }

    /// Does the program leave the collector to itself? It neither froze objects, which
    /// `unfreeze` would give back, nor looks for leaks.
    fn is_left_alone(&self, py: Python<'_>) -> PyResult<bool> {
        let frozen: usize = self.get_freeze_count.call0(py)?.extract(py)?;
        let debug: i64 = self.get_debug.call0(py)?.extract(py)?;
        Ok(frozen <= self.frozen && debug == 0)
    }

    fn is_enabled(&self, py: Python<'_>) -> PyResult<bool> {
        self.is_enabled.call0(py)?.is_truthy(py)
    }

    /// Objects made since the last collection of the youngest, and how many start the next one.
    fn youngest(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let first = |counts: Py<PyAny>| counts.bind(py).get_item(0)?.extract();
        let made: i64 = first(self.get_count.call0(py)?)?;
        let threshold: i64 = first(self.get_threshold.call0(py)?)?;
        let not_negative = |count: i64| u64::try_from(count).unwrap_or(0);
        Ok((not_negative(made), not_negative(threshold)))
    }
}
