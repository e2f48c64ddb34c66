//! The job that a process belongs to: which transport, if any.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::{
    Settings,
    environment::MpiMode,
    failure::Error,
    image::boot,
    launch::Launch,
    package,
    transport::{Group, Launcher, Local, Transport, Wait, World, choice, mapped, plugin::Plugin},
};

/// The environment's settings with `bundle` over them, for programs that need one. A program that
/// `stage` has put into an image knows the bundle of that image.
///
/// # Errors
/// [`Error::Load`] for a variable that means nothing, [`Error::NoBundle`].
pub fn settings(bundle: Option<&Path>) -> Result<Settings, Error> {
    let mut settings = Settings::from_environment()?;
    if let Some(bundle) = bundle {
        bundle.clone_into(&mut settings.bundle);
    }
    if settings.bundle.as_os_str().is_empty() {
        let staged = package::folder().ok();
        let staged = staged.and_then(|package| boot::bundle_of(&package.folder));
        settings.bundle = staged.unwrap_or_default();
    }
    if settings.bundle.as_os_str().is_empty() {
        return Err(Error::NoBundle);
    }
    Ok(settings)
}

/// The job that this process belongs to, or a job of its own. `package` is the folder that holds
/// the plug-ins of this installation.
///
/// # Errors
/// [`Error::Transport`]: there is no plug-in for the job's MPI, or MPI can't be started.
pub fn transport(
    settings: &Settings,
    package: Option<&Path>,
) -> Result<Box<dyn Transport + Send>, Error> {
    let launcher = match settings.mpi {
        Some(MpiMode::Off) => None,
        _ => launcher(),
    };
    let Some(launcher) = launcher else {
        return Ok(Box::new(Local::new()));
    };
    let plugins = choice::plugins(&folders(package))?;
    let chosen = choice::choose(&plugins, &mapped::libraries()?, &launcher)?;
    let plugin = Plugin::load(chosen)?;
    let world = World::start(plugin, &Wait::asleep("MPI to start", settings.timeout))?;
    launcher.check(world.library(), plugin.flavour(), world.size(Group::WORLD))?;
    Ok(Box::new(world))
}

/// The launcher that has started this process as a rank. A child of a rank has its variables, and no
/// place in the job.
pub(crate) fn launcher() -> Option<Launcher> {
    Launcher::detect().filter(|_| !Launch::has_ancestor())
}

/// The same job, joined before by another part of this process through the plug-in at `plugin`.
///
/// # Errors
/// [`Error::Transport`].
pub fn joined(
    settings: &Settings,
    plugin: Option<&Path>,
) -> Result<Box<dyn Transport + Send>, Error> {
    let Some(plugin) = plugin else {
        return Ok(Box::new(Local::new()));
    };
    let wait = Wait::asleep("MPI to start", settings.timeout);
    Ok(Box::new(World::start(Plugin::load(plugin)?, &wait)?))
}

/// The folders to look in: the user's own (`pybundle mpi add`), then the package's.
fn folders(package: Option<&Path>) -> Vec<PathBuf> {
    let set = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")));
    let user = data.map(|data| data.join("pybundle/mpi"));
    user.into_iter()
        .chain(package.map(Path::to_owned))
        .collect()
}
