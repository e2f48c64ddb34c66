//! Environment variables that name packed files: redirected to the tree.
//!
//! Activation scripts and modules set them to the environment's own paths. Only variables that
//! name data for libraries are touched, never those that choose programs or libraries (`PATH`,
//! `LD_LIBRARY_PATH`), which children need as they are.

use std::{collections::BTreeMap, ffi::OsString, os::unix::ffi::OsStrExt as _};

use pyo3::prelude::*;

use super::{claims, lookup::Place, state::State};

/// Variables that hold one path, or several with `:` between them.
const VARIABLES: &[&str] = &[
    "CURL_CA_BUNDLE",
    "ECCODES_DEFINITION_PATH",
    "ECCODES_SAMPLES_PATH",
    "FONTCONFIG_FILE",
    "FONTCONFIG_PATH",
    "GDAL_DATA",
    "GDAL_DRIVER_PATH",
    "GI_TYPELIB_PATH",
    "GIT_SSL_CAINFO",
    "GSETTINGS_SCHEMA_DIR",
    "HDF5_PLUGIN_PATH",
    "NLTK_DATA",
    "PROJ_DATA",
    "PROJ_LIB",
    "PYTHONTZPATH",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TCL_LIBRARY",
    "TK_LIBRARY",
    "UDUNITS2_XML_PATH",
];

impl State {
    /// Redirects the variables that name packed files, in `os.environ` and for libraries; gives
    /// their new values.
    pub(crate) fn redirect_variables(&self, py: Python<'_>) -> PyResult<BTreeMap<String, String>> {
        let environ = py.import("os")?.getattr("environ")?;
        let mut redirected = BTreeMap::new();
        for &name in VARIABLES {
            let Ok(value) = environ.get_item(name) else {
                continue;
            };
            let value: OsString = value.extract()?;
            let Some(changed) = self.redirect(py, value.as_bytes())? else {
                continue;
            };
            let changed = std::ffi::OsStr::from_bytes(&changed).to_owned();
            environ.set_item(name, &changed)?;
            redirected.insert(name.to_owned(), changed.to_string_lossy().into_owned());
        }
        Ok(redirected)
    }

    /// The value with every packed path replaced; `None` if there is none.
    fn redirect(&self, py: Python<'_>, value: &[u8]) -> PyResult<Option<Vec<u8>>> {
        let mut changed = false;
        let mut paths = Vec::new();
        for path in value.split(|&byte| byte == b':') {
            match self.place_of(path) {
                Some((Place::File(row), inside)) => {
                    self.place_file(py, row)?;
                    paths.push(claims::join(self.tree.as_bytes(), &inside));
                    changed = true;
                }
                Some((Place::Folder(row), inside)) => {
                    self.place_files_below(py, row)?;
                    paths.push(claims::join(self.tree.as_bytes(), &inside));
                    changed = true;
                }
                _ => paths.push(path.to_vec()),
            }
        }
        Ok(changed.then(|| paths.join(&b':')))
    }
}
