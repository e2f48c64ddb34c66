//! The numbers of the format, each written once.

/// The first bytes of an index.
pub const MAGIC: [u8; 8] = *b"\x89pybndl\n";
/// Readers refuse another major version by name.
pub const MAJOR: u16 = 1;
/// A reader accepts a newer minor version: it adds, it doesn't change.
pub const MINOR: u16 = 1;
/// Bytes of the index header.
pub const HEADER: usize = 256;
/// Sections of an index.
pub const SECTIONS: usize = 12;
/// "None" in a column that holds the number of a row.
pub const NONE: u32 = u32::MAX;

/// Name of the first zip entry.
pub const INDEX_NAME: &str = "META-INF/pybundle/index";
/// Name of the second zip entry.
pub const MANIFEST_NAME: &str = "META-INF/pybundle/manifest.json";
/// Folder of the code blocks.
pub const CODE_FOLDER: &str = "META-INF/pybundle/code";
/// Folder of the roots other than the environment.
pub const ROOTS_FOLDER: &str = "META-INF/pybundle/roots";
/// Nothing of the environment may lie in here.
pub const RESERVED_FOLDER: &str = "META-INF/pybundle";

/// What the name of a group of tests has behind its distribution's.
pub const TESTS_GROUP: &str = " tests";

/// Longest path inside a bundle, in bytes (`PATH_MAX` of Linux less room for the node folder).
pub const PATH_BYTES: usize = 3840;
/// Longest name of one file or folder, in bytes.
pub const NAME_BYTES: usize = 255;
/// Largest index that a reader accepts, in bytes (about ten million files).
pub const INDEX_BYTES: u64 = 1 << 31;
/// Largest manifest, in bytes.
pub const MANIFEST_BYTES: u64 = 64 << 20;
/// Largest decoded code block, in bytes; one module larger than this has a block of its own.
pub const BLOCK_BYTES: u64 = 4 << 20;
