//! Extension modules and libraries in memory, for nodes on which no file can be executed.
//!
//! The dynamic linker is given `/proc/self/fd/N` of an anonymous file. It remembers that name, so a
//! number must never come back for another library, and `$ORIGIN` leads nowhere: the libraries that
//! a module needs are opened before it and found by their SONAME.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::IntoRawFd,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use nix::{
    errno::Errno,
    sys::memfd::{MFdFlags, memfd_create},
};

use super::library;

/// The copies of this process, by the file that each is of. They stay as long as the process does.
#[derive(Debug, Default)]
pub(super) struct Copies(Mutex<HashMap<PathBuf, PathBuf>>);

impl Copies {
    /// The copy of a file, made if need be.
    pub(super) fn of(&self, file: &Path) -> io::Result<PathBuf> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(copy) = known.get(file) {
            return Ok(copy.clone());
        }
        let copy = make(file)?;
        known.insert(file.to_owned(), copy.clone());
        Ok(copy)
    }
}

fn make(file: &Path) -> io::Result<PathBuf> {
    let name = file.file_name().unwrap_or_default();
    let executable = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let memory = match memfd_create(name, MFdFlags::MFD_CLOEXEC | executable) {
        // Kernels before 6.3 don't know the flag, and execute what they are given.
        Err(Errno::EINVAL) => memfd_create(name, MFdFlags::MFD_CLOEXEC),
        made => made,
    }?;
    let mut memory = File::from(memory);
    io::copy(&mut File::open(file)?, &mut memory)?;
    loop {
        let other = memory.try_clone()?;
        // Open for the life of the process.
        let path = PathBuf::from(format!("/proc/self/fd/{}", memory.into_raw_fd()));
        if !library::is_loaded(path.as_os_str()) {
            return Ok(path);
        }
        // The program has closed a descriptor of ours, and its number has come back.
        memory = other;
    }
}
