//! The folder of the node image from which other Pythons attach: the package `pybundle` and a
//! `sitecustomize`; where the image was staged, `pybundle-python` too.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};
use pybundle_bundle::limits;

use super::{Image, site};

/// In the image's folder.
const BOOT: &str = "boot";

/// In that folder.
const BIN: &str = "bin";

/// Sorted before the files of packages.
const HOOK: &str = "!pybundle.pth";

/// What Python runs first of all in a child.
const SITECUSTOMIZE: &str = include_str!("sitecustomize.py");

macro_rules! package {
    ($($name:literal),*) => {
        [$(($name, include_str!(concat!("../../../../pyshim/pybundle/", $name)))),*]
    };
}

/// The package's Python files: what is in memory need not be read from a shared file system.
const PACKAGE: [(&str, &str); 6] = package![
    "__init__.py",
    "__main__.py",
    "_attach.py",
    "_build_mpi.py",
    "_site.py",
    "_site_command.py"
];

/// Makes `IMAGE/boot` unless it is there; one process of the node does, the others wait for it.
/// `package` is the folder of the installed package, for Pythons with this cache tag.
///
/// # Errors
/// What the file system says.
pub fn make(image: &Image, package: Option<&Path>, cache_tag: &str) -> io::Result<PathBuf> {
    let (executable, image) = (image.is_executable(), image.dir());
    let boot = image.join(BOOT);
    if boot.is_dir() {
        return Ok(boot);
    }
    let package = package.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, "the package's folder is unknown")
    })?;
    let lock = File::create(image.join("boot.lock"))?;
    let lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    if !boot.is_dir() {
        let new = image.join("boot.new");
        if new.exists() {
            // Its maker has died.
            fs::remove_dir_all(&new)?;
        }
        fill(&new, package, cache_tag, executable)?;
        fs::rename(&new, &boot)?;
    }
    drop(lock);
    Ok(boot)
}

/// Lets whole jobs start from `IMAGE/boot`, which [`make`] has made on a node where programs can be
/// run: the libraries of `package` are copies of its own instead of links or another version's, and
/// `program`, which starts such jobs, is in [`programs`].
///
/// # Errors
/// What the file system says.
pub fn complete(boot: &Path, package: &Path, program: &Path) -> io::Result<()> {
    for entry in fs::read_dir(package)? {
        let entry = entry?;
        let name = entry.file_name();
        let belongs = name
            .to_str()
            .is_some_and(|name| is_native(name) || is_plugin(name));
        if belongs && entry.path().is_file() {
            replace(&entry.path(), &boot.join("pybundle").join(name))?;
        }
    }
    let bin = boot.join(BIN);
    fs::create_dir_all(&bin)?;
    let name = program.file_name().unwrap_or_default();
    replace(program, &bin.join(name))
}

/// Where [`complete`] puts the program.
pub fn programs(image: &Image) -> PathBuf {
    image.dir().join(BOOT).join(BIN)
}

/// Copies a file to where others may be reading what it was.
fn replace(file: &Path, to: &Path) -> io::Result<()> {
    let mut new = to.to_owned().into_os_string();
    new.push(format!(".{}", std::process::id()));
    // With the path in its errors.
    fs_err::copy(file, &new)?;
    fs_err::rename(&new, to)
}

/// The bundle of the image in which a package lies that [`make`] put there.
pub fn bundle_of(package: &Path) -> Option<PathBuf> {
    let boot = package.parent()?;
    let image = boot.parent()?;
    (boot.file_name()? == BOOT)
        .then(|| site::source(image).ok())
        .flatten()
}

/// Lets the packed Python find the node image whoever starts it: a `.pth` line, before those of
/// packages, which may import what is not placed.
///
/// # Errors
/// What the file system says.
pub fn hook(image: &Image, boot: &Path) -> io::Result<()> {
    let folder = image.manifest().sys_path.iter().find(|folder| {
        let last = folder.rsplit('/').next().unwrap_or_default();
        let is_base = folder.starts_with(limits::ROOTS_FOLDER);
        !is_base && matches!(last, "site-packages" | "dist-packages")
    });
    let Some(folder) = folder else { return Ok(()) };
    let folder = image.tree().join(folder);
    let file = folder.join(HOOK);
    if file.exists() {
        return Ok(());
    }
    // As Python reads them: a path of the image is UTF-8.
    let quoted = |path: &Path| format!("{:?}", path.to_string_lossy());
    let (boot, image) = (quoted(boot), quoted(image.dir()));
    let line = format!(
        "import sys; sys.path.insert(0, {boot}); from pybundle import _attach; \
         sys.path.remove({boot}); _attach.attach({image})\n"
    );
    fs::create_dir_all(&folder)?;
    let new = folder.join(format!("{HOOK}.{}", std::process::id()));
    fs::write(&new, line)?;
    fs::rename(new, file)
}

/// Is this file of the package the extension module?
fn is_native(name: &str) -> bool {
    name.starts_with("_native.") && Path::new(name).extension() == Some("so".as_ref())
}

/// Is it a plug-in, or what belongs to one?
fn is_plugin(name: &str) -> bool {
    name.starts_with("_mpi_")
}

fn fill(boot: &Path, package: &Path, cache_tag: &str, executable: bool) -> io::Result<()> {
    let copy = boot.join("pybundle");
    fs::create_dir_all(&copy)?;
    for (name, text) in PACKAGE {
        fs::write(copy.join(name), text)?;
    }
    for entry in fs::read_dir(package)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(text) = name.to_str() else { continue };
        if is_native(text) && executable {
            fs::copy(entry.path(), copy.join(&name))?;
        } else if is_native(text) || is_plugin(text) {
            // Only ranks of a job that a child starts need a plug-in.
            symlink(entry.path(), copy.join(&name))?;
        }
    }
    fs::write(
        boot.join("sitecustomize.py"),
        SITECUSTOMIZE.replace("@CACHE_TAG@", cache_tag),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_holds_what_children_import() {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("package");
        fs::create_dir(&package).unwrap();
        for name in ["_native.abi3.so", "_mpi_mpich.so", "_native.pyi"] {
            fs::write(package.join(name), "").unwrap();
        }
        let boot = folder.path().join("boot");
        fill(&boot, &package, "cpython-311", true).unwrap();
        let mut names: Vec<_> = fs::read_dir(boot.join("pybundle"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let is_python = |name: &String| Path::new(name).extension() == Some("py".as_ref());
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pyshim/pybundle");
        let sources = fs::read_dir(source).unwrap();
        let sources = sources.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut expected: Vec<_> = sources.filter(|name| is_python(name)).collect();
        expected.extend(["_mpi_mpich.so", "_native.abi3.so"].map(str::to_owned));
        expected.sort();
        assert_eq!(names, expected);
        let text = fs::read_to_string(boot.join("sitecustomize.py")).unwrap();
        assert!(text.contains("\"cpython-311\"") && !text.contains("@CACHE_TAG@"));
    }
}
