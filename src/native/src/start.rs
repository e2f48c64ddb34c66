//! What happens before a program's first line: join the job, load the bundle, install the
//! importer, settle what becomes of MPI.
//!
//! `run` and the site integration both start here. Nothing of the program has run yet, and no
//! module of the bundle is imported.

mod facts;
mod failure;
mod fallback;
mod library;
mod mode;
mod plugins;
mod refusal;
mod source;

use std::{path::PathBuf, sync::Arc};

use pybundle_load::{
    Interrupted, Loaded, Settings,
    environment::MpiMode,
    load,
    transport::{Group, Launcher, Local, Transport, Wait, World, choice, mapped, plugin::Plugin},
};
use pyo3::prelude::*;

use crate::{
    children,
    exit::{self, LauncherSocket, Mpi, Process},
    importer::{self, Options},
    launch::Launch,
    run::Program,
};
pub(crate) use failure::Failure;
pub(crate) use source::Source;

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
    let mut transport = py
        .detach(|| transport(settings))
        .map_err(|error| failure::alone(&error))?;
    let joined = py.detach(|| join(settings, program, runner, &mut *transport));
    let mut joined = match joined {
        Ok(joined) => joined,
        Err(error) => return Err(py.detach(|| failure::end(&error, settings, &mut *transport))),
    };
    let source = joined.source.take();
    let image = joined
        .loaded
        .image
        .as_ref()
        .map(|image| image.dir().to_path_buf());
    match install(py, settings, program, runner, joined) {
        Ok(()) => Ok(Started { source, image }),
        Err(error) => {
            error.print(py);
            // The other ranks may have begun to work.
            exit::fail_at_once(1)
        }
    }
}

/// The job that this process belongs to, or a job of its own.
fn transport(settings: &Settings) -> Result<Box<dyn Transport + Send>, failure::Error> {
    let launcher = match settings.mpi {
        Some(MpiMode::Off) => None,
        // A child of a rank has its variables, and no place in the job.
        _ if Launch::has_ancestor() => None,
        _ => Launcher::detect(),
    };
    let Some(launcher) = launcher else {
        return Ok(Box::new(Local::new()));
    };
    let plugins = choice::plugins(&plugins::folders())?;
    let chosen = choice::choose(&plugins, &mapped::libraries()?, &launcher)?;
    let plugin = Plugin::load(chosen)?;
    let world = World::start(plugin, &Wait::asleep("MPI to start", settings.timeout))?;
    launcher.check(world.library(), plugin.flavour(), world.size(Group::WORLD))?;
    Ok(Box::new(world))
}

/// What the ranks have settled together.
struct Joined {
    loaded: Loaded,
    source: Option<Source>,
    mode: MpiMode,
    mpi: Mpi,
    launcher: Option<LauncherSocket>,
}

/// All that needs the other ranks, in an order that is the same on all of them.
fn join(
    settings: &Settings,
    program: &Program,
    runner: Runner,
    transport: &mut dyn Transport,
) -> Result<Joined, failure::Error> {
    let loaded = load(settings, transport, &mut || {
        Python::attach(|py| {
            py.check_signals().map_err(|error| {
                failure::keep_signal(error);
                Interrupted
            })
        })
    })?;
    let shared = match runner {
        Runner::Us => source::share(program, transport, settings)?,
        Runner::Python { .. } => None,
    };
    let fits = refusal::of(&loaded, transport);
    let opinion = mode::opinion(settings, &loaded.manifest, program, shared.as_ref());
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
        source: shared,
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
    if let Some(image) = image {
        let own = children::Environment::of(py)?;
        let options = Options {
            program: program.folders(),
        };
        let installed =
            importer::install(py, Arc::clone(&image), Some(Arc::clone(&job)), &options)?;
        facts.redirected = installed.redirected;
        facts.standard_library = installed.stdlib.text();
        children::prepare(py, &image, Some(&job), &own)?;
    } else {
        fallback::add_environment(py, &manifest)?;
        if let Some(reason) = fell_back.filter(|_| settings.log) {
            eprintln!("pybundle: this node runs from the environment itself: {reason}");
        }
    }
    job.describe(&facts);
    Ok(())
}
