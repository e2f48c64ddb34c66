//! Sources for a traceback: placed before somebody prints it.
//!
//! Up to Python 3.12 the interpreter prints an uncaught exception without asking loaders: it opens
//! the files that the frames name.

use pyo3::{intern, prelude::*};

use super::state::State;

/// Frames at most: a recursion error has a thousand, in a few files.
const FRAMES: usize = 5_000;

/// Places the sources that a traceback of this exception, its causes and contexts names. What
/// can't be placed is printed without its lines.
pub(crate) fn place_sources(py: Python<'_>, error: &PyErr) {
    let Ok(state) = State::get() else { return };
    let mut errors = vec![error.value(py).clone().into_any()];
    let mut seen = Vec::new();
    let mut frames = 0;
    while let Some(error) = errors.pop() {
        if seen.contains(&error.as_ptr()) {
            continue;
        }
        seen.push(error.as_ptr());
        for name in [intern!(py, "__cause__"), intern!(py, "__context__")] {
            errors.extend(error.getattr(name).ok().filter(|next| !next.is_none()));
        }
        let mut next = error.getattr(intern!(py, "__traceback__"));
        while let Ok(traceback) = next
            && !traceback.is_none()
            && frames < FRAMES
        {
            frames += 1;
            let file = traceback
                .getattr(intern!(py, "tb_frame"))
                .and_then(|frame| frame.getattr(intern!(py, "f_code")))
                .and_then(|code| code.getattr(intern!(py, "co_filename")));
            if let Ok(file) = file {
                let _ = state.placed_path(&file);
            }
            next = traceback.getattr(intern!(py, "tb_next"));
        }
    }
}
