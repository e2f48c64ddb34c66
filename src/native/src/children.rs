//! Child processes: what a rank leaves in its environment for them, and how they attach.
//!
//! A Python that a rank starts finds a `sitecustomize` on its path, in the node image. If it is the
//! same Python it attaches to that image: no MPI, no bundle, no shared file system. A forked child
//! has everything already and only takes a lock of its own.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    sync::Arc,
};

use pybundle_load::{
    Image, Job, Settings,
    environment::{IMAGE, JOB, LOG, READER},
    image::boot,
    launch::{self, Launch},
};
use pyo3::{intern, prelude::*};

use crate::{
    collector,
    exit::{self, Mpi, Process},
    importer::{self, Options},
    package,
};

/// `sys.prefix` of the process that loaded: a Python of another environment is left alone.
const PREFIX: &str = "PYBUNDLE_PREFIX";

/// What the interpreter was before the importer changed it.
pub(crate) struct Environment {
    prefix: OsString,
}

impl Environment {
    /// Of the running interpreter.
    pub(crate) fn of(py: Python<'_>) -> PyResult<Self> {
        let prefix = py.import("sys")?.getattr("prefix")?.extract()?;
        Ok(Self { prefix })
    }

    /// Of the packed interpreter.
    pub(crate) fn in_tree(image: &Image) -> Self {
        let prefix = image.tree().as_os_str().to_owned();
        Self { prefix }
    }
}

/// Lets the children of this process know that they are no ranks.
pub(crate) fn tell(py: Python<'_>) -> PyResult<()> {
    let environ = py.import("os")?.getattr("environ")?;
    environ.set_item(launch::VARIABLE, Launch::of_this_process().to_text())
}

/// Makes everything ready for children of this process to attach.
pub(crate) fn prepare(
    py: Python<'_>,
    image: &Image,
    job: Option<&Job>,
    own: &Environment,
) -> PyResult<()> {
    register_fork(py)?;
    let cache_tag: String = py
        .import("sys")?
        .getattr("implementation")?
        .getattr("cache_tag")?
        .extract()?;
    let made = py.detach(|| {
        let boot = boot::make(image, package::folder().as_deref(), &cache_tag)?;
        if own.prefix == image.tree() {
            boot::hook(image, &boot)?;
        }
        Ok::<_, std::io::Error>(boot)
    });
    let boot = match made {
        Ok(boot) => boot,
        Err(error) => {
            // Children then use the environment itself.
            if env::var_os(LOG).is_some_and(|value| value == "1") {
                eprintln!("pybundle: children can't attach: {error}");
            }
            return Ok(());
        }
    };
    let environ = py.import("os")?.getattr("environ")?;
    let set = |name: &str, value: &OsStr| environ.set_item(name, value);
    let mut path = boot.into_os_string();
    let old = env::var_os("PYTHONPATH").unwrap_or_default();
    // A child that runs a bundle has its parent's folder there already.
    let parents = env::var_os(IMAGE).map(|image| Path::new(&image).join("boot"));
    for entry in env::split_paths(&old).filter(|entry| parents.as_ref() != Some(entry)) {
        if !entry.as_os_str().is_empty() {
            path.push(":");
            path.push(entry);
        }
    }
    set("PYTHONPATH", &path)?;
    set(IMAGE, image.dir().as_os_str())?;
    set(PREFIX, &own.prefix)?;
    if let Some(job) = job {
        set(JOB, job.variable().as_ref())?;
    }
    match image.lend() {
        Some(lent) => set(READER, lent.as_ref())?,
        // An ancestor's is of another image.
        None => drop(environ.call_method1("pop", (READER, py.None()))?),
    }
    Ok(())
}

/// Attaches this process to the node image that its environment names, or to the one from whose
/// tree it runs. False if it runs from the environment itself: it is no child of ours, the image is
/// gone, or it was told not to.
pub(crate) fn attach(py: Python<'_>, own: Option<PathBuf>) -> PyResult<bool> {
    let settings = Settings::from_environment().unwrap_or_default();
    if settings.disabled || exit::is_watched() {
        return Ok(false);
    }
    if let Some(image) = own {
        return attach_to(py, &image, &settings);
    }
    let Some(dir) = env::var_os(IMAGE).map(PathBuf::from) else {
        return Ok(false);
    };
    let prefix: OsString = py.import("sys")?.getattr("prefix")?.extract()?;
    let ours = env::var_os(PREFIX).is_some_and(|known| known == prefix);
    // A rank of a job that the program has started finds its own bundle.
    if !ours || !Launch::has_ancestor() {
        return Ok(false);
    }
    attach_to(py, &dir, &settings)
}

/// Attaches this process to a node image; false if that can't be.
pub(crate) fn attach_to(py: Python<'_>, dir: &Path, settings: &Settings) -> PyResult<bool> {
    let image = match py.detach(|| Image::attach(dir)) {
        Ok(image) => Arc::new(image),
        Err(error) => {
            if settings.log {
                eprintln!("pybundle: not attached: {error}");
            }
            return Ok(false);
        }
    };
    // What runs from the tree has no standard library but the packed one.
    let prefix: OsString = py.import("sys")?.getattr("prefix")?.extract()?;
    if prefix == image.tree()
        && let Err(error) = importer::check_build(py, image.manifest())
    {
        eprintln!(
            "error: {}\nhint: {}",
            error.value(py),
            importer::OTHER_LIBRARY
        );
        exit::fail_at_once(1);
    }
    // Of a process that has this image, and not another.
    let told = env::var_os(IMAGE).is_some_and(|known| known == dir);
    let told = |name| env::var(name).ok().filter(|_| told);
    if let Some(lent) = told(READER) {
        image.borrow(&lent);
    }
    let job = told(JOB)
        .and_then(|text| Job::attach(&image, &text))
        .map(Arc::new);
    if let Some(job) = &job {
        image.set_job(Arc::clone(job));
    }
    exit::watch(
        py,
        Process {
            image: Some(Arc::clone(&image)),
            job: None,
            mpi: Mpi::None,
            launcher: None,
            wrapper: None,
        },
    )?;
    importer::install(py, image, job, Options::default())?;
    register_fork(py)?;
    collector::install(py, settings)?;
    Ok(true)
}

fn register_fork(py: Python<'_>) -> PyResult<()> {
    let keywords = pyo3::types::PyDict::new(py);
    keywords.set_item("after_in_child", wrap_pyfunction!(forked, py)?)?;
    let register = py.import("os")?.getattr(intern!(py, "register_at_fork"))?;
    register.call((), Some(&keywords)).map(drop)
}

/// Called in every forked child.
#[pyfunction]
fn forked() {
    exit::forked();
}
