//! The packed interpreter in the tree, and what it reads before a finder serves it.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use pybundle_bundle::{
    Manifest,
    record::{Module, ModuleKind, Node},
};

use super::Image;
use crate::{Error, Result, error::io_at};

/// The file that tells a virtual environment's interpreter where its base is.
pub(crate) const CONFIG: &[u8] = b"pyvenv.cfg";

/// Modules that Python imports before `site`, or that a finder needs to get in: some are frozen,
/// depending on the version. Python takes its standard library to be where `os` lies.
const EARLY: [&[u8]; 25] = [
    b"_bootlocale",
    b"_collections_abc",
    b"_py_warnings",
    b"_sitebuiltins",
    b"_weakrefset",
    b"abc",
    b"codecs",
    b"copyreg",
    b"enum",
    b"functools",
    b"genericpath",
    b"heapq",
    b"io",
    b"keyword",
    b"operator",
    b"os",
    b"posixpath",
    b"reprlib",
    b"site",
    b"sre_compile",
    b"sre_constants",
    b"sre_parse",
    b"stat",
    b"types",
    b"warnings",
];

/// Any of these may be the encoding of the standard streams.
const ENCODINGS: &[u8] = b"encodings";

/// All packages of which any module may be needed so early: option `-W` takes regular expressions.
const EARLY_PACKAGES: [&[u8]; 3] = [ENCODINGS, b"collections", b"re"];

/// In the image's folder: what the interpreter needs is placed.
const STARTS: &str = "starts";

/// What starts a packed interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// The environment's `python`, in the tree.
    pub executable: PathBuf,
    /// The library that holds Python, for programs that start it themselves.
    pub libpython: Option<PathBuf>,
}

impl Image {
    /// Places the interpreter and what it reads by itself at its start.
    ///
    /// # Errors
    /// [`Error::Image`] if the bundle has none; else as [`Self::place`].
    pub fn place_interpreter(&self) -> Result<Interpreter> {
        let python = &self.manifest.python;
        let Some(own) = &python.executable else {
            return Err(Error::Image {
                path: self.bundle.clone(),
                why: "the bundle was packed without an interpreter".to_owned(),
            });
        };
        self.place_path(own.as_bytes())?;
        self.place_path(CONFIG)?;
        let libpython = python.libpython.as_ref();
        let libpython = libpython.map(|path| self.place_path(path.as_bytes()));
        // A virtual environment has links to its base's.
        let links = ["bin/python3", "bin/python"];
        let links = links.map(|link| self.place_path(link.as_bytes()));
        let mut executable = self.tree().join(OsStr::from_bytes(own.as_bytes()));
        for link in links {
            if let Some(link) = link? {
                executable = link;
            }
        }
        // Once a node; who finds it done has nothing to write.
        let done = self.dir().join(STARTS);
        if !done.exists() {
            self.place_early()?;
            let made = fs::write(&done, b"");
            made.map_err(|error| io_at("cannot make", &done, error))?;
        }
        Ok(Interpreter {
            executable,
            libpython: libpython.transpose()?.flatten(),
        })
    }

    /// Places what the interpreter imports by itself, with bytecode.
    fn place_early(&self) -> Result<()> {
        for folder in &self.manifest.sys_path {
            let Some(row) = self.index.find_folder(folder.as_bytes()) else {
                continue;
            };
            // Python takes no folder that isn't there: for `sys.path`, or as its extension modules'.
            self.make_folders([row])?;
            if !self.is_standard(row) {
                continue;
            }
            let below = |name: &[u8]| [folder.as_bytes(), b"/", name].concat();
            let packages = EARLY_PACKAGES.map(|name| self.index.find_folder(&below(name)));
            let is_inside = |module: &Module| packages.contains(&Some(module.folder));
            let single = EARLY.iter().chain(&EARLY_PACKAGES);
            let single = single.filter_map(|name| self.index.find_module(row, name));
            let modules = self.modules().filter(|(_, module)| is_inside(module));
            self.place_with_bytecode(single.chain(modules))?;
        }
        Ok(())
    }

    /// Writes the bytecode of every module that has a source, for Pythons without a finder.
    ///
    /// # Errors
    /// As [`Self::place`].
    pub fn place_all_bytecode(&self) -> Result<()> {
        self.place_with_bytecode(self.modules())
    }

    /// All modules with their rows.
    pub(super) fn modules(&self) -> impl Iterator<Item = (u32, Module)> + '_ {
        let rows = 0..self.index.modules();
        rows.filter_map(|row| Some((row, self.index.module(row)?)))
    }

    /// Places the sources of modules, all together, and writes the bytecode of each.
    fn place_with_bytecode(&self, modules: impl Iterator<Item = (u32, Module)>) -> Result<()> {
        let sources = modules.filter(|(_, module)| module.kind == ModuleKind::Source as u8);
        let sources: Vec<_> = sources.collect();
        let files: BTreeSet<u32> = sources.iter().map(|(_, module)| module.file).collect();
        self.put(&Vec::from_iter(files))?;
        for (row, module) in &sources {
            let source = self.place_entry(module.file)?;
            self.place_bytecode(*row, module, &source)?;
        }
        Ok(())
    }

    /// Does this folder hold a standard library?
    fn is_standard(&self, folder: u32) -> bool {
        self.index.find_module(folder, b"os").is_some()
            && self.index.find_module(folder, ENCODINGS).is_some()
    }

    /// Places what lies at a path, if anything does, and what it leads to.
    fn place_path(&self, path: &[u8]) -> Result<Option<PathBuf>> {
        match self.index.find(path) {
            Some(Node::Entry(row)) => self.place_entry(row).map(Some),
            _ => Ok(None),
        }
    }

    /// Writes a module's bytecode beside its source, as a file that is not compared with it (PEP
    /// 552): the tree never changes.
    ///
    /// # Errors
    /// [`Error::Io`]; as [`Self::code`].
    fn place_bytecode(&self, row: u32, module: &Module, source: &Path) -> Result<()> {
        let Some(file) = cached(&self.manifest, source) else {
            return Ok(());
        };
        if module.code_at == u64::MAX || file.exists() {
            return Ok(());
        }
        let Some(code) = self.code(row)? else {
            return Ok(());
        };
        let failed = |what| {
            let file = file.clone();
            move |error: io::Error| io_at(what, &file, error)
        };
        let folder = file.parent().unwrap_or(Path::new("/"));
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_at("cannot make", folder, error));
            }
            _ => {}
        }
        // Processes that do the same do it at once, and all write the same.
        let mut private = file.clone().into_os_string().into_vec();
        private.extend(format!(".{:x}", crate::nodes::nonce()).as_bytes());
        let private = PathBuf::from(OsStr::from_bytes(&private));
        let content = [&header(&self.manifest)[..], code].concat();
        fs::write(&private, content).map_err(failed("cannot write"))?;
        fs::rename(&private, &file).map_err(failed("cannot make"))
    }
}

/// Where Python looks for a source's bytecode; `None` for a Python that caches none.
pub(crate) fn cached(manifest: &Manifest, source: &Path) -> Option<PathBuf> {
    let tag = &manifest.python.cache_tag;
    let stem = source.file_stem()?.to_str().filter(|_| !tag.is_empty())?;
    let folder = source.parent()?.join("__pycache__");
    Some(folder.join(format!("{stem}.{tag}.pyc")))
}

/// Magic number, flags (by hash, unchecked), and the hash, which nobody looks at.
pub(crate) fn header(manifest: &Manifest) -> [u8; 16] {
    let mut header = [0; 16];
    let magic = u32::from_str_radix(&manifest.python.magic, 16).unwrap_or(0);
    header[..4].copy_from_slice(&magic.to_be_bytes());
    header[4] = 1;
    header
}

/// What `pyvenv.cfg` has to say in the tree: the packed interpreter's folder instead of the one on
/// disk. As it is, if none is packed.
pub(crate) fn relocated(config: &[u8], tree: &Path, manifest: &Manifest) -> Vec<u8> {
    let Some(executable) = &manifest.python.executable else {
        return config.to_vec();
    };
    let executable = tree.join(executable);
    let folder = executable.parent().unwrap_or(tree);
    let mut out = Vec::with_capacity(config.len() + folder.as_os_str().len());
    for line in config.split_inclusive(|&byte| byte == b'\n') {
        let key = line.split(|&byte| byte == b'=').next().unwrap_or_default();
        let value = match key.trim_ascii().to_ascii_lowercase().as_slice() {
            b"home" => folder,
            b"executable" | b"base-executable" => &executable,
            _ => {
                out.extend(line);
                continue;
            }
        };
        out.extend(key.trim_ascii());
        out.extend(b" = ");
        out.extend(value.as_os_str().as_bytes());
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_virtual_environment_finds_its_base_in_the_tree() {
        let mut manifest = sample::manifest(Path::new("/env"));
        let config = b"home = /opt/python/bin\ninclude-system-site-packages = false\n";
        assert_eq!(relocated(config, Path::new("/t"), &manifest), config);
        manifest.python.executable = Some("META-INF/roots/1/bin/python3.11".to_owned());
        let got = relocated(config, Path::new("/t"), &manifest);
        assert_eq!(
            String::from_utf8_lossy(&got),
            "home = /t/META-INF/roots/1/bin\ninclude-system-site-packages = false\n"
        );
        let got = relocated(
            b"Home=/x\nexecutable = /x/python",
            Path::new("/t"),
            &manifest,
        );
        assert_eq!(
            String::from_utf8_lossy(&got),
            "Home = /t/META-INF/roots/1/bin\nexecutable = /t/META-INF/roots/1/bin/python3.11\n"
        );
    }

    #[test]
    fn bytecode_says_that_it_is_not_to_be_compared() {
        let mut manifest = sample::manifest(Path::new("/env"));
        manifest.python.magic = "a70d0d0a".to_owned();
        manifest.python.cache_tag = "cpython-311".to_owned();
        let head = header(&manifest);
        assert_eq!(head[..8], [0xa7, 0x0d, 0x0d, 0x0a, 1, 0, 0, 0]);
        let file = cached(&manifest, Path::new("/t/os.py"));
        assert_eq!(
            file.unwrap(),
            Path::new("/t/__pycache__/os.cpython-311.pyc")
        );
    }
}
