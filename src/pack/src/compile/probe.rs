//! What the environment's interpreter is, by asking it.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::child::{self, Drain};
use crate::marshal::PythonVersion;

/// What the interpreter runs.
const SCRIPT: &str = include_str!("probe.py");

/// What comes before its answer.
const MARKER: &[u8] = b"\npybundle-probe:";

/// Time that it has; a start from a slow, cold file system may well take half a minute.
const LIMIT: Duration = Duration::from_secs(180);

/// Longest answer that is read.
const LONGEST: usize = 1 << 20;

/// An interpreter's answers. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interpreter {
    /// `sys.implementation.name`: `cpython`.
    pub implementation: String,
    /// Major, minor and micro version.
    pub version: [u8; 3],
    /// `sys.version`: version, build and compiler.
    pub full_version: String,
    /// `sys.hexversion`, which tells release candidates apart.
    pub hexversion: u32,
    /// In the names of cached bytecode: `cpython-311`. Absent if it caches none.
    pub cache_tag: Option<String>,
    /// Magic number of its bytecode, eight hexadecimal digits.
    pub magic: String,
    /// In the names of extension modules: `cpython-311-x86_64-linux-gnu`.
    pub soabi: Option<String>,
    /// Full suffix of its own extension modules.
    pub ext_suffix: Option<String>,
    /// All suffixes of extension modules that it imports, in order.
    pub extension_suffixes: Vec<String>,
    /// `sysconfig.get_platform()`: `linux-x86_64`.
    pub platform: String,
    /// `sys.abiflags`: `t` if free-threaded, `d` if a debug build.
    pub abiflags: String,
    /// 32 or 64.
    pub pointer_bits: u8,
    /// `little` or `big`.
    pub byteorder: String,
    /// Built without the global interpreter lock.
    pub free_threaded: bool,
    /// `sys.flags.optimize`, 0 unless its build says otherwise.
    pub optimize: u8,
    /// `sys.prefix`: the environment.
    pub prefix: PathBuf,
    /// `sys.base_prefix`: what a virtual environment was made from.
    pub base_prefix: PathBuf,
    /// `sys.exec_prefix`.
    pub exec_prefix: PathBuf,
    /// `sys.base_exec_prefix`.
    pub base_exec_prefix: PathBuf,
    /// `sys.executable`.
    pub executable: PathBuf,
    /// The same with all links resolved.
    pub real_executable: PathBuf,
    /// The executable of the base prefix.
    pub base_executable: Option<PathBuf>,
    /// `sys.path` as `site` makes it, without the script's and the user's folders.
    pub sys_path: Vec<PathBuf>,
    /// `site.getsitepackages()`.
    pub site_packages: Vec<PathBuf>,
    /// Folder of the standard library's Python modules.
    pub stdlib: PathBuf,
    /// Folder of its platform-specific part.
    pub platstdlib: PathBuf,
    /// Where distributions of Python modules are installed.
    pub purelib: PathBuf,
    /// Where distributions with extension modules are installed.
    pub platlib: PathBuf,
    /// Folder of libpython (`LIBDIR`), as it was configured: may have moved.
    pub library_folder: Option<PathBuf>,
    /// File name of libpython (`INSTSONAME`).
    pub soname: Option<String>,
    /// `MULTIARCH`, the folder of libraries for this machine where the system has one each.
    pub multiarch: Option<String>,
    /// `LDLIBRARY`, the name that programs link against.
    pub library: Option<String>,
    /// It is built with a shared libpython.
    pub shared: bool,
}

impl Interpreter {
    /// The version that decides the layout of bytecode.
    pub fn python_version(&self) -> PythonVersion {
        PythonVersion {
            major: self.version[0],
            minor: self.version[1],
        }
    }

    /// The magic number's bytes, as a `.pyc` begins with them.
    pub fn magic_bytes(&self) -> Option<[u8; 4]> {
        u32::from_str_radix(&self.magic, 16)
            .ok()
            .map(u32::to_be_bytes)
    }
}

/// Why an environment's interpreter is not known.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The environment is not a folder.
    #[error("environment is not a folder: `{}`", .0.display())]
    NotAFolder(PathBuf),
    /// No interpreter where one must be.
    #[error(
        "`{}` has no interpreter: looked for `bin/python3`, `bin/python` and `bin/python3.X`",
        .0.display()
    )]
    NoInterpreter(PathBuf),
    /// The interpreter can't be started.
    #[error("interpreter doesn't start: `{}`: {error}", interpreter.display())]
    Start {
        /// The interpreter.
        interpreter: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// It ended without an answer.
    #[error("interpreter doesn't answer: `{}`: {ending}", interpreter.display())]
    Ended {
        /// The interpreter.
        interpreter: PathBuf,
        /// Its status and the last line of its stderr.
        ending: String,
    },
    /// It takes longer than it may.
    #[error(
        "interpreter doesn't answer within {} seconds: `{}`",
        limit.as_secs(),
        interpreter.display()
    )]
    Late {
        /// The interpreter.
        interpreter: PathBuf,
        /// The time that it had.
        limit: Duration,
    },
    /// Its answer isn't what the probe prints.
    #[error("interpreter's answer can't be read: `{}`: {error}", interpreter.display())]
    Answer {
        /// The interpreter.
        interpreter: PathBuf,
        /// What is wrong with it.
        error: serde_json::Error,
    },
}

/// The interpreter of an environment folder: `bin/python3`, `bin/python`, else the newest
/// `bin/python3.X`. Links are not resolved: a virtual environment's interpreter knows
/// its environment by the path that it is started with.
///
/// # Errors
/// [`ProbeError::NotAFolder`] and [`ProbeError::NoInterpreter`].
pub fn find_interpreter(environment: &Path) -> Result<PathBuf, ProbeError> {
    if !environment.is_dir() {
        return Err(ProbeError::NotAFolder(environment.to_owned()));
    }
    let bin = environment.join("bin");
    let usual = ["python3", "python"].map(|name| bin.join(name));
    if let Some(found) = usual.into_iter().find(|path| path.is_file()) {
        return Ok(found);
    }
    let versioned = bin
        .read_dir()
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let minor: u8 = entry
                .file_name()
                .to_str()?
                .strip_prefix("python3.")?
                .parse()
                .ok()?;
            Some((minor, entry.path()))
        });
    versioned
        .filter(|(_, path)| path.is_file())
        .max()
        .map(|(_, path)| path)
        .ok_or_else(|| ProbeError::NoInterpreter(environment.to_owned()))
}

/// Asks an interpreter what it is.
///
/// It runs isolated from the caller's settings, but with `site`, so that it says what a
/// program of the environment will find.
///
/// # Errors
/// [`ProbeError`] if it doesn't start or doesn't answer in time.
pub fn probe(interpreter: &Path) -> Result<Interpreter, ProbeError> {
    probe_within(interpreter, LIMIT)
}

fn probe_within(interpreter: &Path, limit: Duration) -> Result<Interpreter, ProbeError> {
    let owned = || interpreter.to_owned();
    let start = |error| ProbeError::Start {
        interpreter: owned(),
        error,
    };
    let process = child::start(&mut child::isolated(interpreter, &["-W", "ignore"], SCRIPT));
    let process = process.map_err(start)?;
    drop(process.stdin);
    let stdout = Drain::new(process.stdout, LONGEST).map_err(start)?;
    process
        .running
        .set_deadline(Instant::now().checked_add(limit));
    let status = process.running.wait().map_err(start)?;
    if process.running.was_late() {
        return Err(ProbeError::Late {
            interpreter: owned(),
            limit,
        });
    }
    let output = stdout.bytes();
    let marker = output
        .windows(MARKER.len())
        .rposition(|window| window == MARKER);
    let (true, Some(marker)) = (status.success(), marker) else {
        let ending = child::ending(&process.running, &process.stderr);
        return Err(ProbeError::Ended {
            interpreter: owned(),
            ending,
        });
    };
    // Whatever is printed at exit comes after the line.
    let answer = output[marker + MARKER.len()..]
        .split(|&byte| byte == b'\n')
        .next();
    serde_json::from_slice(answer.unwrap_or_default()).map_err(|error| ProbeError::Answer {
        interpreter: owned(),
        error,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    fn program(folder: &Path, name: &str, script: &str) -> PathBuf {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn the_usual_names_come_first_then_the_newest_version() {
        let folder = tempfile::tempdir().unwrap();
        let environment = folder.path();
        assert!(matches!(
            find_interpreter(environment),
            Err(ProbeError::NoInterpreter(_))
        ));
        program(environment, "bin/python3.9", "");
        let newest = program(environment, "bin/python3.11", "");
        program(environment, "bin/python3.11-config", "");
        assert_eq!(find_interpreter(environment).unwrap(), newest);
        let python = program(environment, "bin/python", "");
        assert_eq!(find_interpreter(environment).unwrap(), python);
        let missing = environment.join("missing");
        assert!(matches!(
            find_interpreter(&missing),
            Err(ProbeError::NotAFolder(_))
        ));
    }

    #[test]
    fn what_is_no_interpreter_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = probe(&folder.path().join("python")).unwrap_err();
        assert!(matches!(missing, ProbeError::Start { .. }));
        let failing = program(folder.path(), "failing", "echo 'no prefix' >&2; exit 3");
        let message = probe(&failing).unwrap_err().to_string();
        assert!(message.ends_with("exit status: 3: no prefix"), "{message}");
        let silent = program(folder.path(), "silent", "exit 0");
        assert!(matches!(probe(&silent), Err(ProbeError::Ended { .. })));
        let other = program(folder.path(), "other", "echo; echo 'pybundle-probe:{}'");
        assert!(matches!(probe(&other), Err(ProbeError::Answer { .. })));
    }

    #[test]
    fn an_interpreter_that_hangs_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let hanging = program(folder.path(), "hanging", "exec sleep 60");
        let begin = Instant::now();
        let error = probe_within(&hanging, Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error, ProbeError::Late { .. }));
        assert!(begin.elapsed() < Duration::from_secs(20));
    }
}
