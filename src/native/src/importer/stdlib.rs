//! Whose standard library serves: the packed one fits the build of Python that it is of, no other.

use pybundle_bundle::Manifest;
use pyo3::{exceptions::PyImportError, prelude::*};

use super::{build, claims, paths::Standard};

/// Where the standard library comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stdlib {
    /// The bundle.
    Packed,
    /// The running interpreter's own files, because the bundle has none.
    NotPacked,
    /// Likewise, because the bundle's is of another build; how they differ.
    OtherBuild(String),
}

impl Stdlib {
    /// Compares the running interpreter with the packed one.
    pub(crate) fn of(py: Python<'_>, manifest: &Manifest, standard: &Standard) -> PyResult<Self> {
        let mut entries = manifest.sys_path.iter();
        if !entries.any(|entry| standard.has(entry.as_bytes())) {
            return Ok(Self::NotPacked);
        }
        let made = &manifest.python;
        let version: String = py.import("sys")?.getattr("version")?.extract()?;
        if version != made.version_text {
            let (expected, got) = (one_line(&made.version_text), one_line(&version));
            return Ok(Self::OtherBuild(format!(
                "expected `{expected}`, got `{got}`"
            )));
        }
        match build::running() {
            Some(got) if !made.builds.is_empty() && !made.builds.iter().any(|id| id == got) => {
                let expected = made.builds.join("` or `");
                Ok(Self::OtherBuild(format!(
                    "build ID: expected `{expected}`, got `{got}`"
                )))
            }
            _ => Ok(Self::Packed),
        }
    }

    /// For the receipt.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Packed => "from the bundle".to_owned(),
            Self::NotPacked => "files of the running Python: none is packed".to_owned(),
            Self::OtherBuild(difference) => {
                format!(
                    "files of the running Python: the packed one is another build: {difference}"
                )
            }
        }
    }
}

/// What to do where another build runs than the packed one.
pub(crate) const OTHER_LIBRARY: &str = "`LD_LIBRARY_PATH` or `LD_PRELOAD` leads to another libpython, \
     or the node image was changed: `pybundle unstage` removes it";

/// Is a Python that has no standard library but the packed one the build that it is of?
///
/// # Errors
/// `ImportError` that says how they differ.
pub(crate) fn check_build(py: Python<'_>, manifest: &Manifest) -> PyResult<()> {
    match Stdlib::of(py, manifest, &Standard::new(py))? {
        Stdlib::OtherBuild(difference) => Err(PyImportError::new_err(format!(
            "another build of Python runs in the place of the packed one: {difference}"
        ))),
        Stdlib::Packed | Stdlib::NotPacked => Ok(()),
    }
}

/// The original folders of the packed standard library.
pub(crate) fn folders(manifest: &Manifest, standard: &Standard) -> Vec<Vec<u8>> {
    let entries = manifest.sys_path.iter();
    let entries = entries.filter(|entry| standard.has(entry.as_bytes()));
    let mut folders = Vec::new();
    for entry in entries {
        for root in &manifest.roots {
            if let Some(rest) = claims::below(root.folder.as_bytes(), entry.as_bytes()) {
                let paths = root.paths.iter();
                folders.extend(paths.map(|path| claims::join(path.as_bytes(), rest)));
            }
        }
    }
    folders
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
