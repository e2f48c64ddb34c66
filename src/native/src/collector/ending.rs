//! The interpreter's last collections, left out where they would only free memory.
//!
//! When a program has ended, CPython collects, drops all modules and collects again, twice: nearly
//! everything that was imported is in a cycle (a function knows its module's globals, which know the
//! function) and is taken apart there, which for a scientific program takes longer than many an
//! import. A program notices only what finalisers do meanwhile. If there are none left
//! ([`super::inert`]), all objects are set aside for good.

use std::sync::Arc;

use pyo3::{prelude::*, types::PyCFunction};

use super::{Gc, inert, postpone};

/// With more blocks of memory than this, looking at every object takes too long and too much
/// memory of its own.
const MOST: usize = 4_000_000;

/// Has the end looked at. Functions that are registered later are called before it.
pub(super) fn register(py: Python<'_>, gc: Arc<Gc>, log: bool) -> PyResult<()> {
    let end = PyCFunction::new_closure(py, Some(c"end"), None, move |arguments, _| {
        let reason = match end(arguments.py(), &gc) {
            Ok(reason) => reason,
            // What goes wrong here is no reason to disturb a program's end.
            Err(error) => Some(error.to_string()),
        };
        if let Some(reason) = reason.filter(|_| log) {
            eprintln!("pybundle: the last collections run: {reason}");
        }
    })?;
    py.import("atexit")?.call_method1("register", (end,))?;
    Ok(())
}

/// Sets everything aside for good, or says why not.
fn end(py: Python<'_>, gc: &Gc) -> PyResult<Option<String>> {
    if !gc.is_enabled(py)? {
        return Ok(Some("the program has switched collections off".to_owned()));
    }
    // What looking makes would start a collection.
    gc.disable.call0(py)?;
    let reason = postpone::end(py).and_then(|()| against(py, gc));
    gc.enable.call0(py)?;
    let reason = reason?;
    if reason.is_none() {
        gc.freeze.call0(py)?;
    }
    Ok(reason)
}

/// What speaks against setting everything aside.
fn against(py: Python<'_>, gc: &Gc) -> PyResult<Option<String>> {
    if !gc.is_left_alone(py)? {
        return Ok(Some("the program uses `gc` itself".to_owned()));
    }
    let blocks: usize = py
        .import("sys")?
        .call_method0("getallocatedblocks")?
        .extract()?;
    if blocks > MOST {
        return Ok(Some(format!("there are {blocks} blocks of memory")));
    }
    let Some(object) = inert::exception(py, gc)? else {
        return Ok(None);
    };
    let (module, name) = inert::name_of(&object.get_type());
    Ok(Some(format!("there is a `{module}.{name}`")))
}
