//! What one rank counts while its program runs.

use std::{collections::BTreeMap, path::Path, sync::atomic::AtomicU64};

use serde::{Deserialize, Serialize};

use crate::Image;

/// What a rank and its children have done; in memory shared by the ranks of the node.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Counters {
    /// Modules whose code came from the image's mapping.
    pub modules_from_memory: AtomicU64,
    /// Extension modules opened from the image's tree.
    pub extensions: AtomicU64,
    /// Files placed in the tree, during the load and on demand.
    pub files_placed: AtomicU64,
    /// Entries decoded during the load.
    pub load_entries: AtomicU64,
    /// Bytes they decoded to.
    pub load_bytes: AtomicU64,
    /// Entries decoded on demand.
    pub demand_entries: AtomicU64,
    /// Bytes they decoded to.
    pub demand_bytes: AtomicU64,
    /// Bytes read from the bundle on demand.
    pub bytes_read: AtomicU64,
    /// Look-ups that fell through to the real file system.
    pub fall_through: AtomicU64,
}

/// What only the program's side knows, for the receipt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// `keep`, `release` or `off`.
    pub mode: String,
    /// As in `3.11.7`.
    pub python: String,
    /// `auto` or `keep`.
    pub gc: String,
    /// What ran, as in `sys.orig_argv`.
    pub program: Vec<String>,
    /// Environment variables that named a packed path, and what they name now.
    pub redirected: BTreeMap<String, String>,
}

/// The place of this rank in its node's count of the job.
#[derive(Debug)]
pub struct Job {}

impl Job {
    /// The place that a parent has told a child in [`crate::environment::JOB`]; `None` if it is
    /// gone.
    pub fn attach(image: &Image, variable: &str) -> Option<Self> {
        let _ = (image, variable);
        todo!()
    }

    /// What to set [`crate::environment::JOB`] to for children.
    pub fn variable(&self) -> String {
        todo!()
    }

    /// This rank's counters.
    pub fn count(&self) -> &Counters {
        todo!()
    }

    /// Counts a look-up that went to the real file system, and keeps its path for the receipt
    /// while there is room.
    pub fn fell_through(&self, path: impl AsRef<Path>) {
        let _ = path;
        todo!()
    }

    /// Adds what the program's side knows; rank 0's is written.
    pub fn describe(&self, facts: &Facts) {
        let _ = facts;
        todo!()
    }

    /// This rank's program has ended. The node's last one writes the node's part of the receipt.
    pub fn leave(&self) {
        todo!()
    }
}
