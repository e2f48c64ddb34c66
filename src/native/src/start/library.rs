//! Compares the MPI libraries that packed modules need with the one that the job has.

use pybundle_bundle::{Manifest, manifest::MpiNeed};
use pybundle_load::transport::{Transport, mapped};

use crate::importer::is_loaded;

/// The first need that the loaded library does not meet, in words. Nothing without MPI.
pub(super) fn mismatch(manifest: &Manifest, transport: &dyn Transport) -> Option<String> {
    transport.flavour()?;
    let unmet = |need: &&MpiNeed| !need.library.is_empty() && !is_loaded(need.library.as_ref());
    let need = manifest.mpi.iter().find(unmet)?;
    let mapped = mapped::libraries().unwrap_or_default();
    let loaded: Vec<_> = mapped
        .iter()
        .map(|library| library.path.display().to_string())
        .collect();
    Some(format!(
        "the bundle needs another MPI library than the job has: expected `{}` (for `{}`), got {} \
         (`{}`)",
        need.library,
        need.by.first().map_or("", String::as_str),
        short(transport.library()),
        loaded.join("`, `"),
    ))
}

/// `MPICH Version: 5.0.2` or the like, without what the library's text says behind that.
fn short(library: &str) -> String {
    let words = library
        .split(',')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_text_is_cut_to_its_name() {
        assert_eq!(short("MPICH Version:      5.0.2"), "MPICH Version: 5.0.2");
        assert_eq!(short("Open MPI v5.0.11, package: x"), "Open MPI v5.0.11");
        assert_eq!(short(""), "");
    }
}
