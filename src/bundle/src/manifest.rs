//! The JSON part of a bundle: which Python, which roots, which MPI; for people, tools and the plan.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// `META-INF/pybundle/manifest.json`. Unknown fields are ignored: a minor version may add some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format, `MAJOR.MINOR`.
    pub format: String,
    /// The program that wrote it, as in `pybundle 0.1.0`.
    pub writer: String,
    /// The Python that the environment belongs to.
    pub python: Python,
    /// Optimisation levels of the packed bytecode; today one.
    pub optimize: Vec<u8>,
    /// Oldest glibc that every packed library accepts, as in `2.28`.
    pub glibc: Option<String>,
    /// Where the files come from; the first is the environment.
    pub roots: Vec<Root>,
    /// The environment's `sys.path` below the roots, as paths inside the bundle, in order.
    pub sys_path: Vec<String>,
    /// Modules below `sys_path` that were left out on purpose, as paths inside the bundle without a
    /// suffix: they are looked for where they were.
    #[serde(default)]
    pub left_out: Vec<String>,
    /// Lines of `.pth` files that start with `import`, in site's order.
    pub pth: Vec<PthLine>,
    /// Folders outside the environment that editable installs name: program code, read at each run.
    pub editable: Vec<Editable>,
    /// MPI libraries that packed modules need.
    pub mpi: Vec<MpiNeed>,
    /// What was packed.
    pub counts: Counts,
    /// The options of `pack` that shape the bundle.
    pub options: Options,
    /// What was installed in the environment's own folders for that; since 1.1.
    #[serde(default)]
    pub installed: Vec<Installed>,
}

/// The Python that a bundle was made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Python {
    /// `sys.implementation.name`.
    pub implementation: String,
    /// As in `3.11.7`.
    pub version: String,
    /// `sys.version`.
    pub version_text: String,
    /// `sys.implementation.cache_tag`.
    pub cache_tag: String,
    /// `importlib.util.MAGIC_NUMBER`, in hexadecimal.
    pub magic: String,
    /// `sysconfig.get_config_var("SOABI")`.
    pub soabi: String,
    /// `sysconfig.get_platform()`.
    pub platform: String,
    /// A build without the global interpreter lock.
    pub free_threaded: bool,
    /// `importlib.machinery.EXTENSION_SUFFIXES`, in order.
    pub extension_suffixes: Vec<String>,
    /// `sys.prefix` of the environment when it was packed.
    pub prefix: String,
    /// `sys.base_prefix`.
    pub base_prefix: String,
    /// Its executable, as a path inside the bundle, if it is packed.
    #[serde(default)]
    pub executable: Option<String>,
    /// Its shared library, likewise.
    #[serde(default)]
    pub libpython: Option<String>,
    /// Build IDs of the two, as their linker wrote them: who has one of these is the packed build.
    #[serde(default)]
    pub builds: Vec<String>,
}

/// What was installed in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The folder, as a path inside the bundle.
    pub folder: String,
    /// Its [`names`](crate::installed::names).
    pub names: String,
}

/// Where files of a bundle come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Folder inside the bundle: empty for the environment.
    pub folder: String,
    /// Original folders: as given, and with symlinks resolved where that differs.
    pub paths: Vec<String>,
}

/// An `import` line of a `.pth` file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PthLine {
    /// The file, as a path inside the bundle.
    pub file: String,
    /// The line.
    pub line: String,
}

/// A folder of `sys.path` outside the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Editable {
    /// Its path.
    pub folder: String,
    /// How many entries of the manifest's `sys_path` come before it.
    pub behind: usize,
}

/// An MPI library that packed modules are linked against or look for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MpiNeed {
    /// `libmpi.so.40`, `libmpi.so.12`, …; empty for a module that takes any.
    pub library: String,
    /// Some files that need it, as paths inside the bundle.
    pub by: Vec<String>,
}

/// What was packed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Symlinks.
    pub links: u64,
    /// Modules with bytecode.
    pub modules: u64,
    /// Bytes of bytecode.
    pub code_bytes: u64,
    /// Sources that don't compile.
    pub uncompiled: u64,
    /// Distributions (placing groups).
    pub groups: u64,
}

/// The options of `pack` that shape the bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// zstd level.
    pub level: i32,
    /// Globs given with `--exclude`.
    pub exclude: Vec<String>,
    /// The standard library and the interpreter of a base prefix are packed too.
    #[serde(default)]
    pub stdlib: bool,
}

impl Manifest {
    /// The bytes as stored: indented JSON with a newline at the end.
    ///
    /// # Errors
    /// [`Error::Manifest`] if a string can't be written as JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|error| Error::Manifest {
            what: error.to_string(),
        })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads stored bytes.
    ///
    /// # Errors
    /// [`Error::Manifest`] with the parser's words.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| Error::Manifest {
            what: error.to_string(),
        })
    }
}
