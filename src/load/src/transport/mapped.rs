//! Which MPI libraries lie in this process's memory already.
//!
//! A program that has loaded one has chosen it; a second one beside it would be a world of its
//! own. File names tell the families apart, so nothing is opened.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::Flavour;

/// An MPI library mapped into this process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MpiLibrary {
    /// Its file, symbolic links resolved.
    pub path: PathBuf,
    /// Its family.
    pub flavour: Flavour,
}

impl MpiLibrary {
    /// The name that programs need it by: the file's, up to the first number of its version.
    pub fn soname(&self) -> String {
        let name = name(&self.path);
        match name.split_once(".so.") {
            Some((stem, version)) => {
                let number = version.split('.').next().unwrap_or_default();
                format!("{stem}.so.{number}")
            }
            None => name.to_owned(),
        }
    }
}

/// The MPI libraries of this process, in the order of their addresses.
///
/// # Errors
/// When `/proc/self/maps` cannot be read.
pub fn libraries() -> io::Result<Vec<MpiLibrary>> {
    Ok(from_maps(&fs_err::read_to_string("/proc/self/maps")?))
}

/// Finds the MPI libraries in the text of a `maps` file.
fn from_maps(maps: &str) -> Vec<MpiLibrary> {
    // Address, rights, offset, device, inode, then the path, which may hold spaces.
    let path = |line: &str| line.find('/').map(|at| PathBuf::from(&line[at..]));
    let mut paths: Vec<_> = maps.lines().filter_map(path).collect();
    paths.dedup();
    let open_pal = paths
        .iter()
        .any(|path| name(path).starts_with("libopen-pal."));
    let mut libraries: Vec<MpiLibrary> = Vec::new();
    for path in paths {
        let Some(flavour) = flavour(name(&path), open_pal) else {
            continue;
        };
        if libraries.iter().all(|library| library.path != path) {
            libraries.push(MpiLibrary { path, flavour });
        }
    }
    libraries
}

fn name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

/// The family of a library by its file name; `None` for all that are not an MPI's C library.
fn flavour(name: &str, open_pal: bool) -> Option<Flavour> {
    let (stem, version) = name.split_once(".so")?;
    let number = version
        .strip_prefix('.')
        .and_then(|text| text.split('.').next()?.parse().ok());
    match stem {
        // Open MPI has counted from 20 on since its version 2; MPICH's family stays at 12.
        "libmpi" => match number {
            Some(20..) => Some(Flavour::OpenMpi),
            Some(12u32) | None if open_pal => Some(Flavour::OpenMpi),
            _ => Some(Flavour::Mpich),
        },
        "libmpich" | "libmpi_abi" => Some(Flavour::Mpich),
        // Cray's, one for each compiler.
        _ if [
            "libmpi_gnu",
            "libmpi_cray",
            "libmpi_intel",
            "libmpi_nvidia",
            "libmpi_amd",
        ]
        .iter()
        .any(|prefix| stem.starts_with(prefix)) =>
        {
            Some(Flavour::Mpich)
        }
        _ if stem == "libmpi_ibm" => Some(Flavour::OpenMpi),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_tell_the_families_apart() {
        let cases = [
            ("libmpi.so.40", Some(Flavour::OpenMpi)),
            ("libmpi.so.40.30.4", Some(Flavour::OpenMpi)),
            ("libmpi.so.12.5.2", Some(Flavour::Mpich)),
            ("libmpich.so.12.2.2", Some(Flavour::Mpich)),
            ("libmpi_gnu_123.so.12", Some(Flavour::Mpich)),
            ("libmpi_ibm.so.3", Some(Flavour::OpenMpi)),
            ("libmpi_mpifh.so.40", None),
            ("libmpifort.so.12", None),
            ("libmpicxx.so.12", None),
            ("libmpi.a", None),
        ];
        for (name, expected) in cases {
            assert_eq!(flavour(name, false), expected, "{name}");
        }
        assert_eq!(flavour("libmpi.so.12", true), Some(Flavour::OpenMpi));
    }

    #[test]
    fn each_library_is_listed_once() {
        let maps = "\
7f00-7f10 r--p 00000000 08:01 10 /opt/my mpi/lib/libmpi.so.40.1
7f10-7f20 r-xp 00001000 08:01 10 /opt/my mpi/lib/libmpi.so.40.1
7f20-7f30 r--p 00000000 08:01 11 /opt/my mpi/lib/libopen-pal.so.80
7f30-7f40 rw-p 00000000 00:00 0 [heap]
7f40-7f50 r--p 00002000 08:01 10 /opt/my mpi/lib/libmpi.so.40.1
";
        let path = PathBuf::from("/opt/my mpi/lib/libmpi.so.40.1");
        assert_eq!(
            from_maps(maps),
            [MpiLibrary {
                path,
                flavour: Flavour::OpenMpi
            }]
        );
        assert!(libraries().unwrap().is_empty());
    }
}
