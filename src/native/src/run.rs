//! `python -m pybundle run`.

mod arguments;
pub(crate) mod program;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use pybundle_load::{Settings, failure, image::boot, launch::Launch};
use pyo3::{
    exceptions::{PySystemExit, PyValueError},
    prelude::*,
};

use crate::{
    exit, package,
    start::{self, Runner},
};
pub(crate) use arguments::Program;
use arguments::{Arguments, Options};
pub(crate) use program::{is_zip, safe_path};

/// Runs a program from a bundle: `arguments` are those that follow `run`.
///
/// # Errors
/// `SystemExit` with the status for this process, if that is not 0.
pub(crate) fn run(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<()> {
    let (options, program, rest) = match arguments::parse(arguments) {
        Ok(Arguments::Run {
            options,
            program,
            rest,
        }) => (options, program, rest),
        Ok(Arguments::Help) => {
            py.import("builtins")?
                .call_method1("print", (arguments::USAGE.trim_end(),))?;
            return Ok(());
        }
        Err(mistake) => {
            let usage = arguments::USAGE.lines().next().unwrap_or_default();
            py.detach(|| failure::once(|| eprintln!("error: {mistake}\n{usage}")));
            return Err(PySystemExit::new_err(2));
        }
    };
    let settings = match settings(py, options) {
        Ok(settings) => settings,
        Err(error) => {
            py.detach(|| failure::alone(&error.into()));
            return Err(PySystemExit::new_err(1));
        }
    };
    program::drop_first_path(py)?;
    let source = if settings.disabled {
        None
    } else {
        match start::start(py, &settings, &program, Runner::Us) {
            Ok(started) => started.source,
            Err(failure) => {
                let status = Err(PySystemExit::new_err(1));
                return failure
                    .signal
                    .map_or(status, |signal| exit::finish(py, Err(signal)));
            }
        }
    };
    let outcome = program::run(py, &program, &rest, source);
    exit::finish(py, outcome)
}

/// The environment's settings with the command line's over them.
fn settings(py: Python<'_>, options: Options) -> Result<Settings, pybundle_load::Error> {
    let mut settings = Settings::from_environment()?;
    if let Some(bundle) = options.bundle {
        settings.bundle = bundle;
    }
    if settings.bundle.as_os_str().is_empty() {
        let staged = package::folder().and_then(|folder| boot::bundle_of(&folder));
        let bundle = staged.or_else(|| bundle_beside(py).ok());
        settings.bundle = bundle.unwrap_or_default();
    }
    if Launch::has_ancestor() {
        // The variable meant the run that this one is a child of.
        settings.receipt = None;
    }
    settings.receipt = options.receipt.or(settings.receipt);
    settings.strict |= options.strict;
    settings.keep |= options.keep;
    settings.all_files |= options.all_files;
    Ok(settings)
}

/// `ENV.pybundle` beside the running environment, where `pack` puts it.
fn bundle_beside(py: Python<'_>) -> PyResult<PathBuf> {
    let prefix: PathBuf = py.import("sys")?.getattr("prefix")?.extract()?;
    let mut name = prefix.into_os_string();
    name.push(".pybundle");
    Ok(name.into())
}

impl Program {
    /// A `script`, `module`, `command` or `stdin`, and its name or text.
    ///
    /// # Errors
    /// `ValueError` for a module or command that isn't UTF-8.
    pub(crate) fn from_form(form: &str, value: OsString) -> PyResult<Self> {
        let text = |value: OsString| {
            let not_text = |_| PyValueError::new_err("not UTF-8");
            value.into_string().map_err(not_text)
        };
        Ok(match form {
            "script" => Self::Script(value),
            "module" => Self::Module(text(value)?),
            "command" => Self::Command(text(value)?),
            _ => Self::Stdin,
        })
    }

    /// The folders whose modules are the program's own, even inside the environment.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let current = std::env::current_dir().ok();
        let folder = match self {
            Self::Script(path) => {
                let path = Path::new(path);
                let real = path.canonicalize().ok();
                // A folder or zip file goes on `sys.path` as it was named.
                let folder = real.filter(|real| real.is_file());
                folder
                    .and_then(|real| Some(real.parent()?.to_path_buf()))
                    .or_else(|| current.map(|current| current.join(path)))
            }
            _ => current,
        };
        folder.into_iter().collect()
    }
}
