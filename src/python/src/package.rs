//! Where the rest of the installation lies: the extension module and the plug-ins.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pybundle_load::failure::Error;

/// The folder of the Python package.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) folder: PathBuf,
    /// The extension module, one for every Python.
    pub(crate) native: PathBuf,
}

/// Name of the extension module's file.
const NATIVE: &str = "_native.abi3.so";

/// The package beside this program (a folder that was copied to the node, say), or that of the
/// environment in whose `bin` this program lies.
///
/// # Errors
/// [`Error::Refused`] where there is none.
pub(crate) fn folder() -> Result<Package, Error> {
    let program = std::env::current_exe()?;
    let own = program.parent().unwrap_or(Path::new("/"));
    let beside = own.join("pybundle");
    // What lies beside the program is there, or nothing is: one question.
    if let Some(package) = package(beside) {
        return Ok(package);
    }
    let library = own.join("../lib");
    let minors = (9..=14).map(|minor| format!("python3.{minor}/site-packages/pybundle"));
    let mut installed = minors.map(|inside| library.join(inside));
    installed.find_map(package).ok_or_else(|| Error::Refused {
        text: format!("no `pybundle/{NATIVE}` belongs to `{}`", program.display()),
        hint: "keep the folder `pybundle` of the installation beside the program".to_owned(),
        speaks: true,
    })
}

fn package(folder: PathBuf) -> Option<Package> {
    let native = folder.join(NATIVE);
    fs::metadata(&native).ok()?;
    Some(Package { folder, native })
}
