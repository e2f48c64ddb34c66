//! Where the rest of the installation lies: the extension module, the plug-ins, the programs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::failure::Error;

/// The Python package, and what belongs to it.
#[derive(Debug)]
pub struct Package {
    /// Where it lies.
    pub folder: PathBuf,
    /// The extension module, one for every Python.
    pub native: PathBuf,
}

/// Name of the extension module's file.
const NATIVE: &str = "_native.abi3.so";

/// The package of the environment in whose `bin` this program lies, or of a folder that was copied
/// to the node: `FOLDER/bin` holds the programs, `FOLDER/pybundle` is the package.
///
/// # Errors
/// [`Error::Refused`] where there is none.
pub fn folder() -> Result<Package, Error> {
    let program = std::env::current_exe()?;
    let top = program.ancestors().nth(2).unwrap_or(Path::new("/"));
    if let Some(package) = package(top.join("pybundle")) {
        return Ok(package);
    }
    let library = top.join("lib");
    let minors = (9..=14).map(|minor| format!("python3.{minor}/site-packages/pybundle"));
    let mut installed = minors.map(|inside| library.join(inside));
    installed.find_map(package).ok_or_else(|| {
        Error::refused(
            format!("no `pybundle/{NATIVE}` belongs to `{}`", program.display()),
            "keep the folder `pybundle` of the installation beside the program's `bin`",
        )
    })
}

/// A program of the installation that lies beside this one.
///
/// # Errors
/// What the system says about this one.
pub fn program(name: &str) -> std::io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(name))
}

fn package(folder: PathBuf) -> Option<Package> {
    let native = folder.join(NATIVE);
    fs::metadata(&native).ok()?;
    Some(Package { folder, native })
}
