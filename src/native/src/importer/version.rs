//! Is this the interpreter that a bundle was made for?

use pybundle_bundle::Manifest;
use pyo3::{exceptions::PyImportError, prelude::*};

/// Compares the running interpreter with the manifest's: implementation, bytecode, ABI, platform.
///
/// # Errors
/// An `ImportError` naming the first difference, expected and got.
pub(crate) fn check(py: Python<'_>, manifest: &Manifest) -> PyResult<()> {
    let made = &manifest.python;
    let implementation = py.import("sys")?.getattr("implementation")?;
    let magic: Vec<u8> = py
        .import("_frozen_importlib_external")?
        .getattr("MAGIC_NUMBER")?
        .extract()?;
    let magic = magic
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let suffixes: Vec<String> = py
        .import("_imp")?
        .call_method0("extension_suffixes")?
        .extract()?;
    let tag: Option<String> = implementation.getattr("cache_tag")?.extract()?;
    let name: String = implementation.getattr("name")?.extract()?;
    let machine = nix::sys::utsname::uname()
        .map(|uname| format!("linux-{}", uname.machine().to_string_lossy()))
        .unwrap_or_default();
    let facts = [
        ("implementation", made.implementation.clone(), name),
        ("cache tag", made.cache_tag.clone(), tag.unwrap_or_default()),
        ("bytecode magic", made.magic.clone(), magic),
        (
            "extension suffixes",
            made.extension_suffixes.join(" "),
            suffixes.join(" "),
        ),
        ("platform", made.platform.clone(), machine),
    ];
    for (what, expected, got) in facts {
        if expected != got {
            return Err(PyImportError::new_err(format!(
                "bundle was made for another Python ({}): {what}: expected `{expected}`, \
                 got `{got}`",
                made.version
            )));
        }
    }
    Ok(())
}
