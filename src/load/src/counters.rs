//! The counters of a rank.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a rank and its children have done; in memory shared by the ranks of the node.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Counters {
    /// Modules whose code came from the image's mapping.
    pub modules_from_memory: AtomicU64,
    /// Modules of the program that root has sent.
    pub program_modules: AtomicU64,
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
    /// Bytes read from the bundle on demand, or by a single process while loading.
    pub bytes_read: AtomicU64,
    /// Look-ups that fell through to the real file system.
    pub fall_through: AtomicU64,
}

impl Counters {
    /// Names and values, in the order of the receipt.
    pub(crate) fn values(&self) -> [(&'static str, u64); 10] {
        let value = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("modules_from_memory", value(&self.modules_from_memory)),
            ("program_modules", value(&self.program_modules)),
            ("extensions", value(&self.extensions)),
            ("files_placed", value(&self.files_placed)),
            ("load_entries", value(&self.load_entries)),
            ("load_bytes", value(&self.load_bytes)),
            ("demand_entries", value(&self.demand_entries)),
            ("demand_bytes", value(&self.demand_bytes)),
            ("bytes_read", value(&self.bytes_read)),
            ("fall_through", value(&self.fall_through)),
        ]
    }
}
