//! What happens before a program's first line: join the job, load the bundle, install the
//! importer, settle what becomes of MPI.
//!
//! `run` and the site integration both start here. Nothing of the program has run yet, and no
//! module of the bundle is imported.

mod facts;
mod fallback;
mod library;
mod mode;
mod refusal;
mod source;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use pybundle_load::{
    Image, Interrupted, Job, Loaded, Settings, environment::MpiMode, failure, join as joining,
    load, transport::Transport,
};
use pyo3::prelude::*;

use crate::{
    children, collector,
    exit::{self, LauncherSocket, Mpi, Process},
    importer::{self, Options},
    package,
    run::Program,
};
use source::Shared;
pub(crate) use source::Source;

/// A failed start, of which the message has been printed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the program's signal handler raised, if that ended the start.
    pub(crate) signal: Option<PyErr>,
}

/// What the program's signal handler raised during the load.
static SIGNAL: Mutex<Option<PyErr>> = Mutex::new(None);

/// What the program gets.
pub(crate) struct Started {
    /// The program's text, where root has read it for all.
    pub(crate) source: Option<Source>,
    /// The node image's folder; `None` where the node fell back to the environment.
    pub(crate) image: Option<PathBuf>,
}

/// Whose work it is to run the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Runner {
    /// Ours: the text may come from root.
    Us,
    /// The interpreter's (site integration); perhaps not the last that this wrapper runs.
    Python {
        /// Its process.
        wrapper: Option<u32>,
    },
}

/// What was done for this process before it had a Python.
pub(crate) struct Handed {
    /// The node image.
    pub(crate) image: Arc<Image>,
    /// This rank's place in its job.
    pub(crate) job: Arc<Job>,
    /// The MPI plug-in that has started MPI, if one has.
    pub(crate) plugin: Option<PathBuf>,
}

/// Starts this process. On failure the message is printed and MPI ended.
///
/// # Errors
/// [`Failure`]: what is left for the caller is to end the process with status 1.
pub(crate) fn start(
    py: Python<'_>,
    settings: &Settings,
    program: &Program,
    runner: Runner,
) -> Result<Started, Failure> {
    begin(py, settings, program, runner, None)
}

/// Goes on where the program that started this Python has come to: the bundle is loaded.
///
/// # Errors
/// As [`start`].
pub(crate) fn go_on(
    py: Python<'_>,
    settings: &Settings,
    program: &Program,
    runner: Runner,
    handed: Handed,
) -> Result<Started, Failure> {
    begin(py, settings, program, runner, Some(handed))
}

fn begin(
    py: Python<'_>,
    settings: &Settings,
    program: &Program,
    runner: Runner,
    handed: Option<Handed>,
) -> Result<Started, Failure> {
    let in_tree = handed.is_some();
    let package = package::folder();
    let transport = py.detach(|| match &handed {
        Some(handed) => joining::joined(settings, handed.plugin.as_deref()),
        None => joining::transport(settings, package.as_deref()),
    });
    let mut transport = transport.map_err(|error| {
        failure::alone(&error);
        Failure { signal: None }
    })?;
    let joined = py.detach(|| {
        let loaded = match handed {
            Some(handed) => resumed(handed),
            None => loaded(settings, &mut *transport)?,
        };
        join(settings, program, runner, loaded, in_tree, &mut *transport)
    });
    let mut joined = match joined {
        Ok(joined) => joined,
        Err(error) => {
            let signal = SIGNAL.lock().unwrap_or_else(PoisonError::into_inner).take();
            py.detach(|| failure::end(&error, settings, &mut *transport, signal.is_some()));
            return Err(Failure { signal });
        }
    };
    let source = joined.shared.source.take();
    let image = joined.loaded.image.as_ref();
    let image = image.map(|image| image.dir().to_path_buf());
    match install(py, settings, program, runner, joined, in_tree) {
        Ok(()) => Ok(Started { source, image }),
        Err(error) => {
            error.print(py);
            // The other ranks may have begun to work.
            exit::fail_at_once(1)
        }
    }
}

/// Loads the bundle together with the other ranks.
fn loaded(
    settings: &Settings,
    transport: &mut dyn Transport,
) -> Result<Loaded, pybundle_load::Error> {
    load(settings, transport, &mut || {
        Python::attach(|py| {
            py.check_signals().map_err(|error| {
                *SIGNAL.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Interrupted
            })
        })
    })
}

/// What was loaded, taken over.
fn resumed(handed: Handed) -> Loaded {
    Loaded {
        manifest: handed.image.manifest().clone(),
        image: Some(handed.image),
        job: handed.job,
        fell_back: None,
    }
}

/// What the ranks have settled together.
struct Joined {
    loaded: Loaded,
    shared: Shared,
    mode: MpiMode,
    mpi: Mpi,
    launcher: Option<LauncherSocket>,
}

/// All else that needs the other ranks, in an order that is the same on all of them.
fn join(
    settings: &Settings,
    program: &Program,
    runner: Runner,
    loaded: Loaded,
    in_tree: bool,
    transport: &mut dyn Transport,
) -> Result<Joined, failure::Error> {
    let shared = source::share(program, runner, transport, settings)?;
    let fits = refusal::of(&loaded, in_tree, transport);
    let opinion = mode::opinion(settings, &loaded.manifest, program, &shared);
    let mode = mode::agree(settings, fits, opinion, transport)?;
    let mut launcher = LauncherSocket::take(transport.flavour());
    let (mode, mpi) = match mode {
        _ if transport.flavour().is_none() => (MpiMode::Off, Mpi::None),
        mode if !transport.initialised_here() => (mode, Mpi::Theirs),
        MpiMode::Release => {
            match &mut launcher {
                Some(launcher) => launcher.stay(|| transport.finalise())?,
                None => transport.finalise()?,
            }
            (MpiMode::Release, Mpi::Released)
        }
        mode => (mode, Mpi::Keep),
    };
    Ok(Joined {
        loaded,
        shared,
        mode,
        mpi,
        launcher,
    })
}

/// All that this process does alone, with Python.
fn install(
    py: Python<'_>,
    settings: &Settings,
    program: &Program,
    runner: Runner,
    joined: Joined,
    in_tree: bool,
) -> PyResult<()> {
    let Loaded {
        image,
        manifest,
        job,
        fell_back,
    } = joined.loaded;
    exit::watch(
        py,
        Process {
            image: image.clone(),
            job: Some(Arc::clone(&job)),
            mpi: joined.mpi,
            launcher: joined.launcher,
            wrapper: match runner {
                Runner::Us => None,
                Runner::Python { wrapper } => wrapper,
            },
        },
    )?;
    children::tell(py)?;
    let mut facts = facts::of(py, joined.mode)?;
    let shared = joined.shared;
    facts.program_files = shared.report;
    if let Some(image) = image {
        let own = if in_tree {
            children::Environment::in_tree(&image)
        } else {
            children::Environment::of(py)?
        };
        let folder = shared.folder.map(|folder| vec![folder]);
        let options = Options {
            program: folder.unwrap_or_else(|| program.folders()),
            files: shared.files,
            in_tree,
        };
        let installed = importer::install(py, Arc::clone(&image), Some(Arc::clone(&job)), options)?;
        facts.redirected = installed.redirected;
        facts.standard_library = installed.stdlib.text();
        children::prepare(py, &image, Some(&job), &own)?;
        collector::install(py, settings)?;
    } else {
        fallback::add_environment(py, &manifest)?;
        if let Some(reason) = fell_back.filter(|_| settings.log) {
            eprintln!("pybundle: this node runs from the environment itself: {reason}");
        }
    }
    job.describe(&facts);
    Ok(())
}
