//! Puts the finder, the path hook and the paths of a node image into the running interpreter.

use std::{
    collections::BTreeMap,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::PathBuf,
    sync::Arc,
};

use pybundle_bundle::Manifest;
use pybundle_load::{Image, Job};
use pyo3::{exceptions::PyImportError, intern, prelude::*, types::PyList};

use super::{
    claims::Claims,
    finder::{self, Finder},
    hooks,
    paths::Standard,
    state::State,
    stdlib::{self, Stdlib},
    unplaced, version,
};
use crate::program::Files;

/// What an installation depends on beside the node image.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Folders of the program (the script's, the working directory where `sys.path` names it):
    /// they keep their own paths even inside the environment.
    pub(crate) program: Vec<PathBuf>,
    /// The running interpreter is the packed one, in the tree: its paths are right, and `site` is
    /// about to do what it does.
    pub(crate) in_tree: bool,
    /// What lies in them, if root has sent it.
    pub(crate) files: Option<Files>,
}

/// What an installation did.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    /// Environment variables that named packed paths, and what they name now.
    pub(crate) redirected: BTreeMap<String, String>,
    /// Where the standard library comes from.
    pub(crate) stdlib: Stdlib,
}

/// Serves imports from a node image from now on. Once a process.
///
/// # Errors
/// An `ImportError` if the bundle was made for another Python; `RuntimeError` if a bundle is
/// installed already.
pub(crate) fn install(
    py: Python<'_>,
    image: Arc<Image>,
    job: Option<Arc<Job>>,
    options: Options,
) -> PyResult<Installed> {
    let manifest = image.manifest();
    version::check(py, manifest)?;
    let tree = image.tree().to_str().map(str::to_owned).ok_or_else(|| {
        PyImportError::new_err(format!(
            "node image lies in a folder that isn't UTF-8: `{}`",
            image.tree().display()
        ))
    })?;
    let standard = Standard::new(py);
    let stdlib = Stdlib::of(py, manifest, &standard)?;
    let claims = claims_of(py, manifest, &tree, &options, &standard, &stdlib)?;
    let prefix: PathBuf = py.import("sys")?.getattr("prefix")?.extract()?;
    // The environment's own interpreter: `site` has done what `.pth` files say.
    let own = options.in_tree
        || claims
            .claim(prefix.as_os_str().as_bytes())
            .is_some_and(|claimed| claimed.inside.is_empty());

    let state = State::new(py, image, job, claims, tree, options.files)?.publish()?;
    state.machinery.publish(py)?;
    state.make_top_folders(py)?;
    state.rewrite_path(py, &standard, own)?;
    if !options.in_tree {
        state.rewrite_prefixes(py, own)?;
    }
    state.clean_cache(py)?;
    let sys = state.machinery.sys.bind(py);
    sys.getattr("path_hooks")?
        .call_method1("insert", (0, &state.machinery.folder))?;
    state.serve_program(py)?;
    state.make_finders(py)?;
    insert_finder(state, py)?;
    finder::searching();
    hooks::register(state, py)?;
    hooks::teach_present_interpreters(state, py)?;
    unplaced::teach_metadata(state, intern!(py, "importlib.metadata").as_any())?;
    let redirected = state.redirect_variables(py)?;
    let no_site: bool = sys.getattr("flags")?.getattr("no_site")?.is_truthy()?;
    if !own && !no_site {
        state.run_pth_lines(py)?;
        state.settle_path(py)?;
    }
    Ok(Installed { redirected, stdlib })
}

/// The rules for the running interpreter.
fn claims_of(
    py: Python<'_>,
    manifest: &Manifest,
    tree: &str,
    options: &Options,
    standard: &Standard,
    stdlib: &Stdlib,
) -> PyResult<Claims> {
    let sys = py.import("sys")?;
    let mut program: Vec<Vec<u8>> = options
        .program
        .iter()
        .map(|folder| folder.as_os_str().as_bytes().to_vec())
        .collect();
    // Another build of the same version keeps its own standard library: the parts in C of one
    // don't fit the other.
    if matches!(stdlib, Stdlib::OtherBuild(_)) {
        program.extend(stdlib::folders(manifest, standard));
    }
    let mut claims = Claims::new(manifest, tree.as_bytes(), &program);
    // The interpreter may know its prefixes by other names than the packer did.
    for (attribute, known) in [
        ("prefix", &manifest.python.prefix),
        ("base_prefix", &manifest.python.base_prefix),
    ] {
        let named: String = sys.getattr(attribute)?.extract()?;
        let root = manifest
            .roots
            .iter()
            .find(|root| root.paths.contains(known));
        if let Some(root) = root
            && named != *known
            && claims.claim(named.as_bytes()).is_none()
            && same_folder(&named, known)
        {
            claims.add_root(named.as_bytes(), root.folder.as_bytes());
        }
    }
    Ok(claims)
}

fn same_folder(one: &str, other: &str) -> bool {
    let identity = |path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

/// Puts the finder directly before `PathFinder`.
fn insert_finder(state: &State, py: Python<'_>) -> PyResult<()> {
    let meta_path = state
        .machinery
        .sys
        .bind(py)
        .getattr("meta_path")?
        .cast_into::<PyList>()?;
    let path_finder = state.machinery.path_finder.bind(py);
    let at = meta_path.iter().position(|finder| finder.is(path_finder));
    meta_path.insert(at.unwrap_or(meta_path.len()), Bound::new(py, Finder)?)
}
