//! What a bundle must fit before anything of it is imported.

use pybundle_load::{Loaded, failure::Error, transport::Transport};
use pyo3::Python;

use super::library;
use crate::importer;

/// Why the loaded bundle can't serve this process.
pub(super) fn of(loaded: &Loaded, transport: &dyn Transport) -> Option<Error> {
    let refused = |text: String, hint: &str| Some(Error::refused(text, hint));
    // Where the node fell back, nothing of the bundle will be imported.
    let python = loaded.image.as_ref().and_then(|image| {
        Python::attach(|py| {
            let checked = importer::check(py, image.manifest());
            checked.err().map(|error| error.value(py).to_string())
        })
    });
    if let Some(text) = python {
        return refused(
            text,
            "run it with that Python, or pack an environment of this one",
        );
    }
    let text = library::mismatch(&loaded.manifest, transport)?;
    refused(
        text,
        "start the job with the mpiexec of that MPI (`pybundle mpi add MPICC` builds its \
         transport), or install the package for the job's MPI and pack again",
    )
}
