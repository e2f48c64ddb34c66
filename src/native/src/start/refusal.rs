//! What a bundle must fit before anything of it is imported.

use pybundle_load::{Loaded, failure::Error, transport::Transport};
use pyo3::Python;

use super::library;
use crate::importer;

/// Why the loaded bundle can't serve this process, which runs `in_tree` where its Python is packed.
pub(super) fn of(loaded: &Loaded, in_tree: bool, transport: &dyn Transport) -> Option<Error> {
    let refused = |text: String, hint: &str| Some(Error::refused(text, hint));
    // Where the node fell back, nothing of the bundle will be imported.
    let python = loaded.image.as_ref().and_then(|image| {
        Python::attach(|py| {
            let manifest = image.manifest();
            let mut refused = importer::check(py, manifest).err().map(|error| {
                (
                    error,
                    "run it with that Python, or pack an environment of this one",
                )
            });
            if in_tree && refused.is_none() {
                let checked = importer::check_build(py, manifest);
                refused = checked.err().map(|error| (error, importer::OTHER_LIBRARY));
            }
            refused.map(|(error, hint)| (error.value(py).to_string(), hint))
        })
    });
    if let Some((text, hint)) = python {
        return refused(text, hint);
    }
    let text = library::mismatch(&loaded.manifest, transport)?;
    refused(
        text,
        "start the job with the mpiexec of that MPI (`pybundle mpi add MPICC` builds its \
         transport), or install the package for the job's MPI and pack again",
    )
}
