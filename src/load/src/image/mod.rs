//! The node image: what lies on a node, shared by its ranks.

use std::path::{Path, PathBuf};

use pybundle_bundle::{Index, Manifest};

use crate::{Job, Result};

/// A file of the image, mapped into memory.
#[derive(Debug)]
pub struct Mapping(memmap2::Mmap);

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// An attached node image. Dropping it leaves it.
pub struct Image {
    index: Index<Mapping>,
}

impl Image {
    /// Attaches to a complete image, without other ranks and without MPI.
    ///
    /// # Errors
    /// [`crate::Error::Image`] if it isn't one of this user, this boot and this version.
    pub fn attach(dir: &Path) -> Result<Self> {
        let _ = dir;
        todo!()
    }

    /// The image's folder.
    pub fn dir(&self) -> &Path {
        todo!()
    }

    /// The folder that stands for the environment.
    pub fn tree(&self) -> &Path {
        todo!()
    }

    /// The bundle's index.
    pub fn index(&self) -> &Index<Mapping> {
        &self.index
    }

    /// The bundle's manifest.
    pub fn manifest(&self) -> &Manifest {
        todo!()
    }

    /// The bundle that the image was made from.
    pub fn bundle(&self) -> &Path {
        todo!()
    }

    /// The marshalled code of a module, with its file name below [`Self::tree`]; no system call.
    pub fn code(&self, module: u32) -> Option<&[u8]> {
        let _ = module;
        todo!()
    }

    /// Decoding and placing on demand is counted here.
    pub fn set_job(&self, job: std::sync::Arc<Job>) {
        let _ = job;
        todo!()
    }

    /// Has the group been placed? One atomic load.
    pub fn is_placed(&self, group: u32) -> bool {
        let _ = group;
        todo!()
    }

    /// Places a group's files (those on request only excepted) and its companions'. Nothing to do
    /// costs one atomic load; many processes at once share the work.
    ///
    /// # Errors
    /// [`crate::Error::Entry`] for an entry that is corrupt or finds no room.
    pub fn place(&self, group: u32) -> Result<()> {
        let _ = group;
        todo!()
    }

    /// Places one file, on request only or not, and gives its path.
    ///
    /// # Errors
    /// As [`Self::place`].
    pub fn place_entry(&self, entry: u32) -> Result<PathBuf> {
        let _ = entry;
        todo!()
    }

    /// Places every file.
    ///
    /// # Errors
    /// As [`Self::place`].
    pub fn place_all(&self) -> Result<()> {
        todo!()
    }

    /// To be called in a forked child before anything else: takes a lock of its own.
    ///
    /// # Errors
    /// [`crate::Error::Image`] if the image has vanished.
    pub fn forked(&self) -> Result<()> {
        todo!()
    }

    /// This process needs the image no longer; the last one out removes it, unless it is kept.
    /// Done by drop too, once.
    pub fn leave(&self) {
        todo!()
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Image").finish_non_exhaustive()
    }
}

/// An image that [`clean`] found.
#[derive(Clone, Debug)]
pub struct Cleaned {
    /// Its folder.
    pub dir: PathBuf,
    /// Its allocated bytes.
    pub bytes: u64,
    /// Somebody holds it: it stays.
    pub held: bool,
}

/// Removes the images of this user that nobody holds, kept ones too.
///
/// # Errors
/// [`crate::Error::Io`] for an image that can't be removed.
pub fn clean(node_dir: Option<&Path>, dry_run: bool) -> Result<Vec<Cleaned>> {
    let _ = (node_dir, dry_run);
    todo!()
}
