//! One ELF file: what its dynamic section and its symbols say.
//!
//! The file is untrusted: offsets and counts are checked against its length, and
//! nothing is read through section headers, which a file may lack and `ld.so` ignores.

use std::{fmt, str::FromStr};

use goblin::{
    container::{Container, Ctx, Endian},
    elf::{
        Elf,
        dynamic::{DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_SONAME, Dynamic},
        header::{ELFCLASS64, ELFDATA2LSB, ELFMAG, EM_AARCH64, EM_X86_64, machine_to_str},
        program_header::{PT_INTERP, ProgramHeader},
    },
};

use serde::{Deserialize, Serialize};

use super::symbols::{self, Strings};

/// Why a file that begins like ELF can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// A table or header is malformed.
    #[error("malformed ELF file: {0}")]
    Malformed(String),
    /// A name lies outside the string table or isn't UTF-8.
    #[error("malformed ELF file: no name at {0} of the string table")]
    Name(u64),
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// Something else than ELF.
    NotElf,
    /// ELF for a machine that isn't supported; a short description.
    Foreign(String),
    /// A program or library for a machine that is supported.
    Native(Box<Scan>),
}

/// Instruction set of an ELF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Machine {
    /// `x86_64`.
    X86_64,
    /// `aarch64`.
    Aarch64,
}

/// What an ELF file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// Its instruction set.
    pub machine: Machine,
    /// Name under which `ld.so` knows it once it is loaded (DT_SONAME).
    pub soname: Option<String>,
    /// Names of libraries that it needs (DT_NEEDED), in order.
    pub needed: Vec<String>,
    /// Folders of DT_RPATH, as written. Ignored by `ld.so` if there is a RUNPATH.
    pub rpath: Vec<String>,
    /// Folders of DT_RUNPATH, as written; `None` if there is no such entry.
    pub runpath: Option<Vec<String>>,
    /// Oldest glibc that has all symbol versions that it needs.
    pub glibc: Option<Glibc>,
    /// It exports a `PyInit_` function.
    pub extension_module: bool,
    /// It calls functions of MPI that it doesn't define.
    pub calls_mpi: bool,
    /// It is a program: it names the dynamic linker that starts it.
    pub program: bool,
    /// What its linker wrote to know it again, in hexadecimal.
    pub build_id: Option<String>,
}

/// A version of glibc.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Glibc {
    /// The first number.
    pub major: u16,
    /// The second number.
    pub minor: u16,
}

impl fmt::Display for Glibc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Glibc {
    type Err = ();

    /// Reads `2.17`; a third number is left out.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.split('.').map(|number| number.parse().map_err(drop));
        let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
            return Err(());
        };
        Ok(Self {
            major: major?,
            minor: minor?,
        })
    }
}

/// Reads an ELF file; `bytes` is all of it.
///
/// # Errors
/// [`ElfError`] if it begins like ELF for a supported machine, but can't be read.
pub fn scan(bytes: &[u8]) -> Result<Object, ElfError> {
    if !bytes.starts_with(ELFMAG) {
        return Ok(Object::NotElf);
    }
    let header = Elf::parse_header(bytes).map_err(malformed)?;
    let (class, data) = (header.e_ident[4], header.e_ident[5]);
    let machine = match (class, data, header.e_machine) {
        (ELFCLASS64, ELFDATA2LSB, EM_X86_64) => Machine::X86_64,
        (ELFCLASS64, ELFDATA2LSB, EM_AARCH64) => Machine::Aarch64,
        (_, _, machine) => {
            let bits = if class == ELFCLASS64 { 64 } else { 32 };
            let name = machine_to_str(machine);
            return Ok(Object::Foreign(format!("{name}, {bits} bits")));
        }
    };
    let context = Ctx::new(Container::Big, Endian::Little);
    let offset = usize::try_from(header.e_phoff).unwrap_or(usize::MAX);
    let count = usize::from(header.e_phnum);
    // A relocatable file has none.
    let segments = match count {
        0 => Vec::new(),
        _ => ProgramHeader::parse(bytes, offset, count, context).map_err(malformed)?,
    };
    let mut scan = Scan {
        machine,
        soname: None,
        needed: Vec::new(),
        rpath: Vec::new(),
        runpath: None,
        glibc: None,
        extension_module: false,
        calls_mpi: false,
        program: segments.iter().any(|segment| segment.p_type == PT_INTERP),
        build_id: symbols::build_id(bytes, &segments),
    };
    if let Some(dynamic) = Dynamic::parse(bytes, &segments, context).map_err(malformed)? {
        read_dynamic(bytes, &dynamic, &segments, &mut scan)?;
    }
    Ok(Object::Native(Box::new(scan)))
}

fn read_dynamic(
    bytes: &[u8],
    dynamic: &Dynamic,
    segments: &[ProgramHeader],
    scan: &mut Scan,
) -> Result<(), ElfError> {
    let info = &dynamic.info;
    let strings = Strings::new(bytes, info.strtab, info.strsz);
    for entry in &dynamic.dyns {
        let name = || strings.get(entry.d_val);
        match entry.d_tag {
            DT_SONAME => scan.soname = Some(name()?.to_owned()),
            DT_NEEDED => scan.needed.push(name()?.to_owned()),
            DT_RPATH => scan.rpath = folders(name()?),
            DT_RUNPATH => scan.runpath = Some(folders(name()?)),
            _ => {}
        }
    }
    scan.glibc = symbols::newest_glibc(bytes, segments, info, strings);
    let names = symbols::read(bytes, info, strings);
    scan.extension_module = names.extension_module;
    scan.calls_mpi = names.calls_mpi;
    Ok(())
}

/// An empty element means the working directory, which is nobody's intention.
fn folders(path: &str) -> Vec<String> {
    path.split(':')
        .filter(|folder| !folder.is_empty())
        .map(str::to_owned)
        .collect()
}

fn malformed(error: impl fmt::Display) -> ElfError {
    ElfError::Malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn this_program_is_read() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let Object::Native(scan) = scan(&bytes).unwrap() else {
            panic!("not native")
        };
        assert!(scan.program && !scan.extension_module && !scan.calls_mpi);
        assert_eq!(scan.soname, None);
        if cfg!(target_env = "gnu") {
            assert!(
                scan.needed.iter().any(|name| name == "libc.so.6"),
                "{scan:?}"
            );
            assert!(scan.glibc.unwrap() >= Glibc { major: 2, minor: 2 });
        }
    }

    #[test]
    fn other_files_and_machines_are_told_apart() {
        assert_eq!(scan(b"").unwrap(), Object::NotElf);
        assert_eq!(scan(b"#!/bin/sh\n").unwrap(), Object::NotElf);
        assert!(scan(b"\x7fELF").is_err());
        let mut bytes = std::fs::read("/proc/self/exe").unwrap();
        bytes[18..20].copy_from_slice(&21_u16.to_le_bytes());
        assert_eq!(
            scan(&bytes).unwrap(),
            Object::Foreign("PPC64, 64 bits".into())
        );
    }

    #[test]
    fn damaged_files_are_refused_or_read_but_never_panic() {
        let mut bytes = std::fs::read("/proc/self/exe").unwrap();
        let length = bytes.len();
        for end in (0..512).chain((0..64).map(|part| length / 64 * part)) {
            let _ = scan(&bytes[..end]);
        }
        // The headers, then what they point to: dynamic section, hash and version tables.
        let header = Elf::parse_header(&bytes).unwrap();
        let context = Ctx::new(Container::Big, Endian::Little);
        let offset = usize::try_from(header.e_phoff).unwrap();
        let segments =
            ProgramHeader::parse(&bytes, offset, header.e_phnum.into(), context).unwrap();
        let dynamic = segments
            .iter()
            .find(|it| it.p_type == goblin::elf::program_header::PT_DYNAMIC);
        let at = dynamic.unwrap().p_offset as usize;
        let info = Dynamic::parse(&bytes, &segments, context)
            .unwrap()
            .unwrap()
            .info;
        let tables = [info.gnu_hash.unwrap_or(0), info.verneed].map(|at| at as usize);
        let starts = [0, at, tables[0], tables[1]];
        for position in starts
            .into_iter()
            .flat_map(|start| (start..start + 384).step_by(3))
        {
            for byte in [0x00, 0x01, 0x7F, 0x80, 0xFF] {
                let kept = std::mem::replace(&mut bytes[position], byte);
                let _ = scan(&bytes);
                bytes[position] = kept;
            }
        }
    }

    #[test]
    fn versions_of_glibc_have_an_order() {
        let version = |text: &str| text.parse::<Glibc>();
        assert!(version("2.17").unwrap() > version("2.2.5").unwrap());
        assert_eq!(version("2.2.5").unwrap().to_string(), "2.2");
        assert!(version("PRIVATE").is_err() && version("2").is_err() && version("2.x").is_err());
    }
}
