//! Bundle to ordinary environment: what was packed, byte for byte, with bytecode.
//!
//! Everything is made under a private name beside its place and takes that place when it is whole,
//! so nobody sees half an environment and a failure leaves nothing behind. Files come first, links
//! and empty folders after all of them: nothing is written through a link that the bundle brings.
//!
//! | submodule | holds |
//! | --- | --- |
//! | `target` | the folder: may it be made, its private name, its place |
//! | `place` | one entry: read, verified, decoded, written; the bytecode of a code block |
//!
//! What lies in the environment is what other zip tools would give, below the same paths, but for
//! two things: the format's own entries stay out (their code is in `__pycache__`), and `pyvenv.cfg`
//! names the packed interpreter where there is one, as in a node image.

mod place;
mod target;

use std::path::{Path, PathBuf};

use fs_err::File;
use pybundle_bundle::{
    Head, pipeline,
    reader::check_directory,
    record::{Entry, Kind},
};

use crate::{Error, Interrupted, Result, image::place::cores};
use place::{Plan, Worker, cost};
use target::Target;

/// More threads wait for the same disk.
const THREADS: usize = 16;

/// What was unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Where it lies: absolute, symlinks resolved.
    pub folder: PathBuf,
    /// Files and their bytes, without bytecode.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Symlinks.
    pub links: u64,
    /// Modules whose bytecode was written.
    pub modules: u64,
}

impl Unpacked {
    fn add(&mut self, other: &Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.links += other.links;
        self.modules += other.modules;
    }
}

/// Called with the stored bytes that are done, and with all of them; ends the work by an error.
pub type Tick<'a> = dyn FnMut(u64, u64) -> Result<(), Interrupted> + 'a;

/// Unpacks a bundle to a folder that is empty or not there. Every byte of the bundle is verified.
///
/// # Errors
/// [`Error::Folder`] if something is there, [`Error::Bundle`] and [`Error::Entry`] if the bundle is
/// not what was packed or finds no room, [`Error::Io`], [`Error::Interrupted`] if `tick` says so:
/// then there is nothing new in the file system.
pub fn unpack(bundle: &Path, folder: &Path, tick: &mut Tick<'_>) -> Result<Unpacked> {
    // Before anything is read: this is the user's mistake more often than a bad bundle.
    let target = Target::new(folder)?;
    let mut file = File::open(bundle)?;
    let head = Head::read(&mut file)?;
    check_directory(&mut file, &head.index)?;
    let made = target.create()?;
    let file = (bundle, file.into_parts().0);
    let plan = Plan::new(file, head, &target, made.folder());
    let rows = || (1..plan.index.entries()).filter_map(|row| Some((row, plan.index.entry(row)?)));
    let is_late = |entry: &Entry| {
        let kind = Kind::from_number(entry.kind);
        matches!(kind, Some(Kind::Link | Kind::Folder))
    };
    let (late, early): (Vec<_>, Vec<_>) = rows().partition(|(_, entry)| is_late(entry));
    let total = rows().map(|(_, entry)| entry.stored).sum();
    let (mut done, mut unpacked) = (0, Unpacked::default());
    for entries in [early, late] {
        pipeline::run(
            cores().min(THREADS),
            &entries,
            |(_, entry)| cost(entry),
            || Worker::new(&plan),
            |worker, (row, entry)| Ok((worker.entry(*row, entry)?, 0)),
            |number, one: Unpacked| {
                unpacked.add(&one);
                done += entries.get(number).map_or(0, |(_, entry)| entry.stored);
                Ok::<_, Error>(tick(done, total)?)
            },
        )?;
    }
    made.put(&target)?;
    Ok(Unpacked {
        folder: target.path().to_owned(),
        ..unpacked
    })
}

#[cfg(test)]
mod tests;
