//! Small virtual environments.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use fs_err as fs;
use pybundle_pack::{Error, Request, Summary};
use tempfile::TempDir;

use crate::{bundle::Bundle, support::Python};

/// A virtual environment in a folder of its own.
pub(crate) struct Environment {
    folder: TempDir,
    version: (u8, u8),
}

impl Environment {
    /// An empty one.
    pub(crate) fn new(python: &Python) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let environment = Self {
            folder,
            version: python.version,
        };
        let status = Command::new(&python.path)
            .args(["-I", "-m", "venv", "--without-pip"])
            .arg(environment.path())
            .status()
            .unwrap();
        assert!(status.success());
        environment
    }

    /// Its folder.
    pub(crate) fn path(&self) -> PathBuf {
        self.top().join("env")
    }

    /// The folder that holds it, and nothing else.
    pub(crate) fn top(&self) -> PathBuf {
        fs::canonicalize(self.folder.path()).unwrap()
    }

    /// Path of `site-packages` below it.
    pub(crate) fn site(&self) -> String {
        format!(
            "lib/python{}.{}/site-packages",
            self.version.0, self.version.1
        )
    }

    /// Writes files of `site-packages`.
    pub(crate) fn write(&self, files: &[(&str, &str)]) -> &Self {
        for (name, text) in files {
            write(&self.path().join(self.site()).join(name), text);
        }
        self
    }

    /// Makes a symlink in `site-packages`.
    pub(crate) fn link(&self, name: &str, target: impl AsRef<Path>) -> &Self {
        let path = self.path().join(self.site()).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }

    /// Runs its interpreter; what it prints.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new(self.path().join("bin/python"))
            .current_dir(self.path().join(self.site()))
            .args(arguments)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A request that packs it beside it.
    pub(crate) fn request(&self) -> Request {
        Request {
            // Most tests ask about the environment alone.
            stdlib: false,
            ..Request::new(self.path())
        }
    }

    /// Packs it afresh.
    pub(crate) fn pack(&self) -> (Bundle, Summary) {
        let request = self.request();
        // Nothing is to be copied from an older one.
        let _ = fs::remove_file(Request::default_output(&request.environment));
        self.pack_as(&request)
    }

    /// Packs it with options.
    pub(crate) fn pack_as(&self, request: &Request) -> (Bundle, Summary) {
        let summary = pybundle_pack::pack(request, &()).unwrap();
        assert_eq!(self.leftovers(), Vec::<String>::new());
        (Bundle::open(&summary.output), summary)
    }

    /// Packs it in vain.
    pub(crate) fn refused(&self, request: &Request) -> Error {
        let error = pybundle_pack::pack(request, &()).unwrap_err();
        assert_eq!(self.leftovers(), Vec::<String>::new());
        error
    }

    /// Temporary files that a packing left.
    fn leftovers(&self) -> Vec<String> {
        fs::read_dir(self.top())
            .unwrap()
            .map(|item| item.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".partial"))
            .collect()
    }
}

/// Writes a file, its folders too.
pub(crate) fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}
