//! Commands that need a Python: replaced by `python -m pybundle COMMAND`.

use std::{
    env,
    ffi::OsString,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Result, anyhow};

use crate::arguments::{Site, SiteAction};

/// Becomes `python -m pybundle COMMAND ARGUMENTS` with the Python of this installation.
pub(crate) fn run(command: &str, arguments: &[OsString]) -> Result<()> {
    let mut python = process::Command::new(interpreter());
    become_python(python.args(["-m", "pybundle", command]).args(arguments))
}

/// Becomes `python -m pybundle site ACTION ENV`.
pub(crate) fn site(options: &Site) -> Result<()> {
    let (action, environment) = match &options.action {
        SiteAction::Install(to) => ("install", &to.environment),
        SiteAction::Remove(from) => ("remove", &from.environment),
        SiteAction::Status(of) => ("status", &of.environment),
    };
    run(
        "site",
        &[action.into(), environment.clone().into_os_string()],
    )
}

fn become_python(command: &mut process::Command) -> Result<()> {
    let error = command.exec();
    let program = command.get_program().display().to_string();
    Err(anyhow!(error).context(format!("cannot run `{program}`")))
}

/// The Python beside this command, else the active environment's, else the first on `PATH`.
fn interpreter() -> PathBuf {
    let beside = env::current_exe()
        .ok()
        .and_then(|path| path.parent().map(Path::to_path_buf));
    let active = env::var_os("VIRTUAL_ENV").map(|path| Path::new(&path).join("bin"));
    [beside, active]
        .into_iter()
        .flatten()
        .flat_map(|folder| [folder.join("python3"), folder.join("python")])
        .find(|path| path.is_file())
        .unwrap_or_else(|| "python3".into())
}
