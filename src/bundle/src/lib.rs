//! What a bundle is.
//!
//! A bundle is a zip file whose entries are zstd frames or stored bytes, whose first entry is an
//! index that every rank searches in place, and whose second is a manifest that says the same for
//! people. This crate holds the types, the canonical layout, the writer and the reader; it knows
//! nothing of MPI, of Python objects or of where an environment comes from. `FORMAT.md` beside this
//! crate is the specification.
//!
//! | module | holds |
//! | --- | --- |
//! | [`limits`] | the numbers: magic, versions, bounds |
//! | [`name`] | what a path inside a bundle may be |
//! | [`build`] | what tells one build of Python from another |
//! | [`manifest`] | the JSON part: which Python, which roots, which MPI |
//! | [`installed`] | what tells that other things are installed now |
//! | [`record`] | one row of each table of the index |
//! | [`index`] | the tables, searched in place |
//! | [`draft`], `tables` | what a bundle is to hold; the index made of it |
//! | [`layout`] | the zip structures, a function of the index alone |
//! | [`writer`] | draft and compressed entries to file |
//! | [`reader`] | file to head, entry and verdict |
//! | [`pipeline`] | entries by many threads, in order, memory bounded: for who writes and who reads |

pub mod build;
pub mod draft;
pub mod error;
pub mod index;
pub mod installed;
pub mod layout;
pub mod limits;
pub mod manifest;
pub mod name;
pub mod pipeline;
pub mod reader;
pub mod record;
mod tables;
pub mod writer;

pub use draft::Draft;
pub use error::{Error, Result};
pub use index::Index;
pub use manifest::Manifest;
pub use reader::Head;
pub use writer::Writer;

/// The SHA-256 of an index: names the bundle and, through the index, every byte of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity(pub [u8; 32]);

impl Identity {
    /// The identity of a bundle with these index bytes.
    #[must_use]
    pub fn of(index: &[u8]) -> Self {
        Self(digest(index))
    }

    /// The first 16 hexadecimal digits: enough to name a folder.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(16);
        text
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, formatter)
    }
}

/// SHA-256 of `bytes`.
#[must_use]
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).into()
}
