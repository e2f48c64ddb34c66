//! A node that could not hold the image: its processes use the environment itself.
//!
//! The running interpreter may belong to another environment, one that holds pybundle alone. Then
//! the packed one's folders go on `sys.path` as `site` would put them there.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use pybundle_bundle::Manifest;
use pyo3::{prelude::*, types::PyList};

/// Puts the folders of the packed environment behind those of the running interpreter.
pub(super) fn add_environment(py: Python<'_>, manifest: &Manifest) -> PyResult<()> {
    let sys = py.import("sys")?;
    let known = sys.getattr("path")?.cast_into::<PyList>()?;
    let version = py.version_info();
    for folder in folders(manifest, (version.major, version.minor)) {
        let name: OsString = folder.clone().into_os_string();
        if known.contains(&name)? || !folder.is_dir() {
            continue;
        }
        if sys.getattr("flags")?.getattr("no_site")?.is_truthy()? {
            known.append(name)?;
        } else {
            py.import("site")?.call_method1("addsitedir", (name,))?;
        }
    }
    Ok(())
}

/// Where the packed environment's `sys.path` leads, its standard library left out: the running
/// interpreter has its own.
fn folders(manifest: &Manifest, (major, minor): (u8, u8)) -> Vec<PathBuf> {
    let standard = [
        format!("python{major}{minor}.zip"),
        format!("python{major}.{minor}"),
        "lib-dynload".to_owned(),
    ];
    let original = |entry: &str| {
        // Root 0 has an empty folder and takes what no other root does.
        let roots = manifest.roots.iter();
        let (rest, root) = roots
            .filter_map(|root| Some((Path::new(entry).strip_prefix(&root.folder).ok()?, root)))
            .min_by_key(|(rest, _)| rest.as_os_str().len())?;
        Some(Path::new(root.paths.first()?).join(rest))
    };
    manifest
        .sys_path
        .iter()
        .filter(|entry| {
            let name = Path::new(entry).file_name().and_then(|name| name.to_str());
            !name.is_some_and(|name| standard.iter().any(|known| known == name))
        })
        .filter_map(|entry| original(entry))
        .collect()
}

#[cfg(test)]
mod tests {
    use pybundle_bundle::manifest::{Counts, Options, Python, Root};

    use super::*;

    fn manifest(roots: &[(&str, &str)], sys_path: &[&str]) -> Manifest {
        let root = |&(folder, path): &(&str, &str)| Root {
            folder: folder.to_owned(),
            paths: vec![path.to_owned()],
        };
        let text = String::new;
        Manifest {
            format: text(),
            writer: text(),
            python: Python {
                implementation: text(),
                version: text(),
                version_text: text(),
                cache_tag: text(),
                magic: text(),
                soabi: text(),
                platform: text(),
                free_threaded: false,
                extension_suffixes: Vec::new(),
                prefix: text(),
                base_prefix: text(),
                executable: None,
                libpython: None,
                builds: Vec::new(),
            },
            optimize: vec![0],
            glibc: None,
            roots: roots.iter().map(root).collect(),
            sys_path: sys_path.iter().map(|&entry| entry.to_owned()).collect(),
            left_out: Vec::new(),
            pth: Vec::new(),
            editable: Vec::new(),
            mpi: Vec::new(),
            counts: Counts::default(),
            options: Options::default(),
            installed: Vec::new(),
        }
    }

    #[test]
    fn each_folder_goes_back_to_its_root() {
        let base = "META-INF/pybundle/roots/1";
        let manifest = manifest(
            &[("", "/env"), (base, "/opt/python")],
            &[
                &format!("{base}/lib/python311.zip"),
                &format!("{base}/lib/python3.11"),
                &format!("{base}/lib/python3.11/lib-dynload"),
                "lib/python3.11/site-packages",
                &format!("{base}/lib/python3.11/site-packages"),
            ],
        );
        let expected = [
            "/env/lib/python3.11/site-packages",
            "/opt/python/lib/python3.11/site-packages",
        ];
        assert_eq!(folders(&manifest, (3, 11)), expected.map(PathBuf::from));
    }
}
