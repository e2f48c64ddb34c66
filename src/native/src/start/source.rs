//! The program's text, read once for all ranks.
//!
//! Launchers give standard input to rank 0 alone, and a script on a shared file system would be
//! read by every rank. Root reads it and broadcasts it; a rank that was told to run another program
//! reads that itself.

use std::{
    ffi::OsStr,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
};

use pybundle_load::{
    Settings,
    transport::{Group, Result, Transport, Wait},
};

use crate::run::Program;

/// Larger ones are not programs but data appended to them: each rank reads its own.
const LARGEST: u64 = 64 << 20;

/// The text of this rank's program.
pub(crate) struct Source {
    /// Its bytes.
    pub(crate) content: Vec<u8>,
}

/// Gives root's program to every rank that runs the same. `None` where a rank has to read itself:
/// the program is no file, or root could not read it.
pub(super) fn share(
    program: &Program,
    transport: &mut dyn Transport,
    settings: &Settings,
) -> Result<Option<Source>> {
    let name = match program {
        Program::Script(path) => path.as_bytes(),
        Program::Stdin => b"-",
        _ => b"",
    };
    if transport.size(Group::WORLD) == 1 {
        return Ok(read(name).map(|content| Source { content }));
    }
    let wait = &mut Wait::asleep("the program's text", settings.timeout);
    let root = transport.rank(Group::WORLD) == 0;
    let mine = if root { read(name) } else { None };
    let shared = mine.is_some();
    let mut bytes = name.to_vec();
    let name_length = name.len();
    bytes.extend(mine.unwrap_or_default());
    // Whether there is one, the length of its name, the length of both.
    let mut header = [0_u8; 17];
    header[0] = shared.into();
    header[1..9].copy_from_slice(&(name_length as u64).to_le_bytes());
    header[9..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    transport.broadcast(Group::WORLD, 0, &mut header, wait)?;
    let number = |at: usize| {
        let bytes = header[at..].first_chunk().copied().unwrap_or_default();
        u64::from_le_bytes(bytes) as usize
    };
    if header[0] == 0 {
        return Ok(None);
    }
    bytes.resize(number(9), 0);
    transport.broadcast(Group::WORLD, 0, &mut bytes, wait)?;
    let content = bytes.split_off(number(1).min(bytes.len()));
    let same = bytes == name;
    Ok(same.then_some(Source { content }))
}

fn read(name: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    if name.is_empty() {
        return None;
    }
    if name == b"-" {
        io::stdin().lock().read_to_end(&mut content).ok()?;
        return Some(content);
    }
    let file = std::fs::File::open(OsStr::from_bytes(name)).ok()?;
    let found = file.metadata().ok()?;
    if !found.is_file() || found.len() > LARGEST {
        return None;
    }
    file.take(LARGEST).read_to_end(&mut content).ok()?;
    Some(content)
}
