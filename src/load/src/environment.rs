//! Every `PYBUNDLE_*` variable, in one table: the README's table comes from it.
//!
//! [`Settings::from_environment`] reads them; command-line options are put over the result.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    time::Duration,
};

use crate::{Error, Result};

/// One environment variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one line of Markdown.
    pub meaning: &'static str,
    /// What holds without it; empty for those that pybundle sets itself.
    pub default: &'static str,
}

/// The bundle to load.
pub const BUNDLE: &str = "PYBUNDLE";
/// The folder for node images.
pub const NODE_DIR: &str = "PYBUNDLE_NODE_DIR";
/// Where the receipt is written.
pub const RECEIPT: &str = "PYBUNDLE_RECEIPT";
/// What is logged to stderr.
pub const LOG: &str = "PYBUNDLE_LOG";
/// What happens to MPI.
pub const MPI: &str = "PYBUNDLE_MPI";
/// What happens to the garbage collector.
pub const GC: &str = "PYBUNDLE_GC";
/// Longest time without progress while loading.
pub const TIMEOUT: &str = "PYBUNDLE_TIMEOUT";
/// Switches everything off.
pub const DISABLE: &str = "PYBUNDLE_DISABLE";
/// The node image that children attach to; set by a loaded process.
pub const IMAGE: &str = "PYBUNDLE_IMAGE";
/// The slot that children count in; set by a loaded process.
pub const JOB: &str = "PYBUNDLE_JOB";
/// Who has the bundle open that children may have to read; set by a loaded process.
pub const READER: &str = "PYBUNDLE_READER";

/// All variables, in the order of the README's table.
pub const VARIABLES: [Variable; 11] = [
    Variable {
        name: BUNDLE,
        meaning: "the bundle; with site integration it also switches the loader on",
        default: "in a staged image and for children of a run, the image's own; else the file beside the running environment",
    },
    Variable {
        name: NODE_DIR,
        meaning: "first candidate for the folder that holds node images",
        default: "`/dev/shm`, `$TMPDIR`, `/tmp`: the first that is local, executable and has room. \
                  Where none is executable, each process opens extension modules from a copy in its \
                  own memory, and the receipt says so",
    },
    Variable {
        name: RECEIPT,
        meaning: "file for the receipt of the run",
        default: "no receipt",
    },
    Variable {
        name: LOG,
        meaning: "`1` logs each phase to stderr",
        default: "off",
    },
    Variable {
        name: MPI,
        meaning: "`keep`: MPI is finalised after the program; `release`: before its first line; \
                  `off`: no MPI, each process reads for itself",
        default: "`keep` if the bundle or the program uses MPI, else `release`",
    },
    Variable {
        name: GC,
        meaning: "`auto`: automatic garbage collections wait while imports go on, and the \
                  interpreter's last ones are left out where they would only free memory; `keep`: \
                  the collector is left alone",
        default: "`auto`",
    },
    Variable {
        name: TIMEOUT,
        meaning: "seconds without progress after which loading fails; `0` waits for ever",
        default: "`300`",
    },
    Variable {
        name: DISABLE,
        meaning: "`1` switches pybundle off: the environment is used as it lies on disk",
        default: "off",
    },
    Variable {
        name: IMAGE,
        meaning: "set for child processes: the node image to attach to",
        default: "",
    },
    Variable {
        name: JOB,
        meaning: "set for child processes: where their counts go in the receipt",
        default: "",
    },
    Variable {
        name: READER,
        meaning: "set for child processes: which process has the bundle open, where an image needs it",
        default: "",
    },
];

/// The default of [`TIMEOUT`].
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// What happens to MPI after the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MpiMode {
    /// Finalised after the program's end.
    Keep,
    /// Finalised before the program's first line.
    Release,
    /// Not used at all.
    Off,
}

impl MpiMode {
    /// The mode's word, as in `PYBUNDLE_MPI` and in receipts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Release => "release",
            Self::Off => "off",
        }
    }
}

/// How to load, run and report.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct Settings {
    /// The bundle; only root opens it. Empty if nothing names one.
    pub bundle: PathBuf,
    /// First candidate for the folder of node images.
    pub node_dir: Option<PathBuf>,
    /// That folder or none: the usual candidates are passed over.
    pub only_node_dir: bool,
    /// Longest time without progress, `None` for ever.
    pub timeout: Option<Duration>,
    /// A node that can't hold the image is an error.
    pub strict: bool,
    /// The image stays when the last process has left.
    pub keep: bool,
    /// How long it does; `None` for ever.
    pub keep_for: Option<Duration>,
    /// Every file is placed before the load ends.
    pub all_files: bool,
    /// Where the receipt is written.
    pub receipt: Option<PathBuf>,
    /// Each phase is logged to stderr.
    pub log: bool,
    /// MPI, `None` to decide by what the bundle needs.
    pub mpi: Option<MpiMode>,
    /// The garbage collector is left alone.
    pub keep_gc: bool,
    /// Nothing is to be done at all.
    pub disabled: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bundle: PathBuf::new(),
            node_dir: None,
            only_node_dir: false,
            timeout: Some(DEFAULT_TIMEOUT),
            strict: false,
            keep: false,
            keep_for: None,
            all_files: false,
            receipt: None,
            log: false,
            mpi: None,
            keep_gc: false,
            disabled: false,
        }
    }
}

impl Settings {
    /// Settings from this process's environment.
    ///
    /// # Errors
    /// [`Error::Setting`] for a variable whose value means nothing.
    pub fn from_environment() -> Result<Self> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// Settings from any variables. An empty value counts as unset.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let path = |name| set(name).map(PathBuf::from);
        let switch = |name| match set(name) {
            None => Ok(false),
            Some(value) => match value.to_str() {
                Some("0") => Ok(false),
                Some("1") => Ok(true),
                _ => Err(refused(name, "`0` or `1`", &value)),
            },
        };
        let timeout = match set(TIMEOUT) {
            None => Some(DEFAULT_TIMEOUT),
            Some(value) => parse_timeout(&value)?,
        };
        let mpi = match set(MPI) {
            None => None,
            Some(value) => match value.to_str() {
                Some("keep") => Some(MpiMode::Keep),
                Some("release") => Some(MpiMode::Release),
                Some("off") => Some(MpiMode::Off),
                _ => return Err(refused(MPI, "`keep`, `release` or `off`", &value)),
            },
        };
        let keep_gc = match set(GC) {
            None => false,
            Some(value) => match value.to_str() {
                Some("auto") => false,
                Some("keep") => true,
                _ => return Err(refused(GC, "`auto` or `keep`", &value)),
            },
        };
        Ok(Self {
            bundle: path(BUNDLE).unwrap_or_default(),
            node_dir: path(NODE_DIR),
            timeout,
            receipt: path(RECEIPT),
            log: switch(LOG)?,
            mpi,
            keep_gc,
            disabled: switch(DISABLE)?,
            ..Self::default()
        })
    }
}

fn parse_timeout(value: &OsStr) -> Result<Option<Duration>> {
    let seconds = value.to_str().and_then(|text| text.parse::<f64>().ok());
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match duration {
        Some(Duration::ZERO) => Ok(None),
        Some(duration) => Ok(Some(duration)),
        None => Err(refused(TIMEOUT, "seconds", value)),
    }
}

fn refused(name: &'static str, expected: &'static str, got: &OsStr) -> Error {
    Error::Setting {
        name,
        expected,
        got: got.to_string_lossy().into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings> {
        Settings::from_variables(|name| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn without_variables_the_defaults_hold() {
        assert_eq!(settings(&[]).unwrap(), Settings::default());
        let empty: Vec<_> = VARIABLES
            .iter()
            .map(|variable| (variable.name, ""))
            .collect();
        assert_eq!(settings(&empty).unwrap(), Settings::default());
    }

    #[test]
    fn each_variable_is_read() {
        let read = settings(&[
            (BUNDLE, "e.pybundle"),
            (NODE_DIR, "/local"),
            (RECEIPT, "r.json"),
            (LOG, "1"),
            (MPI, "off"),
            (GC, "keep"),
            (TIMEOUT, "1.5"),
            (DISABLE, "1"),
        ])
        .unwrap();
        let expected = Settings {
            bundle: "e.pybundle".into(),
            node_dir: Some("/local".into()),
            receipt: Some("r.json".into()),
            log: true,
            mpi: Some(MpiMode::Off),
            keep_gc: true,
            timeout: Some(Duration::from_millis(1500)),
            disabled: true,
            ..Settings::default()
        };
        assert_eq!(read, expected);
        assert_eq!(settings(&[(TIMEOUT, "0")]).unwrap().timeout, None);
    }

    #[test]
    fn a_value_without_meaning_is_named() {
        for (name, value, text) in [
            (
                TIMEOUT,
                "soon",
                "`PYBUNDLE_TIMEOUT`: expected seconds, got `soon`",
            ),
            (
                TIMEOUT,
                "-1",
                "`PYBUNDLE_TIMEOUT`: expected seconds, got `-1`",
            ),
            (
                MPI,
                "yes",
                "`PYBUNDLE_MPI`: expected `keep`, `release` or `off`, got `yes`",
            ),
            (
                GC,
                "off",
                "`PYBUNDLE_GC`: expected `auto` or `keep`, got `off`",
            ),
            (
                LOG,
                "debug",
                "`PYBUNDLE_LOG`: expected `0` or `1`, got `debug`",
            ),
        ] {
            assert_eq!(settings(&[(name, value)]).unwrap_err().to_string(), text);
        }
    }
}
