//! How far a packing or a comparison is, for a bar on a terminal.

/// The parts of a packing that take time, in order; a comparison has the first two and the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Walking the environment; `done` counts files, no total.
    Scan,
    /// Reading what shared libraries need; counts files.
    Libraries,
    /// Bytecode: reused, compiled, compressed; counts bytes of source.
    Compile,
    /// Files: read, compressed, written; counts bytes of content.
    Write,
    /// Files compared with a bundle's; counts bytes of content.
    Compare,
}

impl Phase {
    /// A word for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Libraries => "libraries",
            Self::Compile => "compile",
            Self::Write => "write",
            Self::Compare => "compare",
        }
    }
}

/// Is told how far a packing is. Called from several threads, up to some thousand times a second.
pub trait Progress: Sync {
    /// `done` of `total` (where known) units of `phase` are done. Phases don't overlap; within one,
    /// calls from different threads may arrive out of order.
    fn update(&self, phase: Phase, done: u64, total: Option<u64>);
}

/// Tells nobody.
impl Progress for () {
    fn update(&self, _: Phase, _: u64, _: Option<u64>) {}
}
