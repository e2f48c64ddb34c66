//! Finds the interpreters that integration tests run.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// An interpreter found on this machine.
pub(crate) struct Python {
    /// Its path.
    pub(crate) path: PathBuf,
    /// Its version: major, minor.
    pub(crate) version: (u8, u8),
}

/// Interpreters of 3.9 to 3.14 in `PYBUNDLE_TEST_PYTHONS` (colon-separated), else `python3` of PATH.
/// What is missing is named on stderr.
pub(crate) fn pythons() -> Vec<Python> {
    let listed = env::var_os("PYBUNDLE_TEST_PYTHONS").unwrap_or_else(|| "python3".into());
    let found: Vec<Python> = env::split_paths(&listed)
        .filter_map(|path| ask(&path))
        .collect();
    for minor in 9..=14 {
        if !found.iter().any(|python| python.version == (3, minor)) {
            eprintln!("not tested, no interpreter: Python 3.{minor}");
        }
    }
    found
}

fn ask(path: &Path) -> Option<Python> {
    let script = "import sys; print(*sys.version_info[:2], sys.executable)";
    let output = Command::new(path)
        .args(["-I", "-S", "-c", script])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut words = text.trim().splitn(3, ' ');
    let version = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    if !((3, 9)..=(3, 14)).contains(&version) {
        eprintln!(
            "not tested, not a version that is supported: {}",
            path.display()
        );
        return None;
    }
    // The executable that answered, so that no shim is asked again.
    Some(Python {
        path: words.next()?.into(),
        version,
    })
}
