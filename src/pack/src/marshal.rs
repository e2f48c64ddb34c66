//! Canonical form of CPython's marshalled code objects (3.9 to 3.14).
//!
//! What CPython marshals depends on reference counts, on what else the process
//! had interned and on hash order, so two compiles of one source differ. Here
//! code is read into an arena in which equal constants are one node, and is
//! written again with one choice for everything: references by first use, one
//! type code per value, sorted frozensets, and a single record for
//! `co_filename`, which the loader completes once per node.
//!
//! Input is untrusted: every length is checked, nothing recurses, and nesting
//! is limited as CPython limits it. The result loads to code equal to the
//! original's after `replace(co_filename=…)`.

mod arena;
mod reader;
#[cfg(test)]
mod tests;
mod version;
mod writer;

pub use version::PythonVersion;

/// Code in canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canonical {
    /// The marshalled code object.
    pub bytes: Vec<u8>,
    /// Offset in `bytes` of the type byte of the only record of `co_filename`.
    /// A `u32` (little endian) number of bytes and as many bytes of UTF-8 follow it.
    /// A prefix may be inserted after the number if the number grows with it.
    pub filename_at: u32,
}

/// Why marshalled data was refused. `at` is an offset into the input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MarshalError {
    /// The layout of code objects of this version isn't known here.
    #[error("no code object layout known for Python {0}: expected 3.9 to 3.14")]
    Version(PythonVersion),
    /// Longer than the format's 32-bit lengths allow.
    #[error("marshalled code is too long: expected less than 2147483648 bytes, got {0}")]
    TooLong(usize),
    /// The data ends inside an object.
    #[error("marshalled code is truncated: expected {needed} more bytes at {at}, got {left}")]
    Truncated {
        /// Where the read began.
        at: usize,
        /// Bytes that it needs.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// A type code that CPython 3.9 to 3.14 doesn't write.
    #[error("unknown type code at {at}: {code:#04x}")]
    Type {
        /// Where the code is.
        at: usize,
        /// The type code, without its reference flag.
        code: u8,
    },
    /// A length that is negative or longer than what follows.
    #[error("impossible length at {at}: {length}")]
    Length {
        /// Where the length is.
        at: usize,
        /// Its value.
        length: i64,
    },
    /// A number whose digits are out of range or not normalised.
    #[error("malformed integer at {at}")]
    Integer {
        /// Where the number begins.
        at: usize,
    },
    /// A string that isn't ASCII or UTF-8 (lone surrogates allowed) as its type code says.
    #[error("malformed string at {at}")]
    String {
        /// Where its bytes begin.
        at: usize,
    },
    /// A reference to an object that doesn't exist or isn't complete yet.
    #[error("reference at {at} to an object that isn't complete: {index}")]
    Reference {
        /// Where the reference is.
        at: usize,
        /// The index that it names.
        index: u32,
    },
    /// Nested deeper than CPython reads.
    #[error("objects nested too deeply at {at}: expected at most {limit} levels", limit = reader::DEPTH_LIMIT)]
    Depth {
        /// Where the object that is too deep begins.
        at: usize,
    },
    /// A field of a code object has the wrong type.
    #[error("code object before {at} has a wrong field: `{field}`")]
    Field {
        /// Where the code object ends.
        at: usize,
        /// The field's name.
        field: &'static str,
    },
    /// The data is something else than one code object.
    #[error("marshalled data is not a code object")]
    NotCode,
    /// Bytes follow the code object.
    #[error("{0} bytes follow the code object")]
    Trailing(usize),
}

/// Rewrites a marshalled code object in canonical form, with `filename` as every `co_filename`.
///
/// Equal code gives equal bytes, whoever compiled it and whatever its process had
/// done before; rewriting a result again changes nothing.
///
/// # Errors
/// [`MarshalError`] if `marshalled` isn't exactly one code object of Python `version`.
pub fn canonical(
    marshalled: &[u8],
    version: PythonVersion,
    filename: &str,
) -> Result<Canonical, MarshalError> {
    let layout = Layout::of(version)?;
    let (arena, root) = reader::read(marshalled, layout)?;
    Ok(writer::write(&arena, root, layout, filename))
}

/// Where the fields of a marshalled code object lie: numbers, then objects, with
/// `co_firstlineno` as a number between the objects.
#[derive(Debug)]
struct Layout {
    /// Numbers before the first object.
    numbers: usize,
    /// Names of the objects, in order, with what each must be.
    objects: &'static [(&'static str, Field)],
    /// Index in `objects` of `co_filename`.
    filename: usize,
    /// `co_firstlineno` comes before the object of this index.
    first_line: usize,
}

/// What a field of a code object must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Bytes,
    Text,
    Tuple,
    /// A tuple of strings, which CPython interns when it makes the code object.
    Names,
}

/// 3.8 to 3.10: arguments (3), `co_nlocals`, `co_stacksize`, `co_flags`.
static BEFORE_311: Layout = Layout {
    numbers: 6,
    objects: &[
        ("co_code", Field::Bytes),
        ("co_consts", Field::Tuple),
        ("co_names", Field::Names),
        ("co_varnames", Field::Names),
        ("co_freevars", Field::Names),
        ("co_cellvars", Field::Names),
        ("co_filename", Field::Text),
        ("co_name", Field::Text),
        ("co_lnotab", Field::Bytes),
    ],
    filename: 6,
    first_line: 8,
};

/// 3.11 on: arguments (3), `co_stacksize`, `co_flags`.
static SINCE_311: Layout = Layout {
    numbers: 5,
    objects: &[
        ("co_code", Field::Bytes),
        ("co_consts", Field::Tuple),
        ("co_names", Field::Names),
        ("co_localsplusnames", Field::Names),
        ("co_localspluskinds", Field::Bytes),
        ("co_filename", Field::Text),
        ("co_name", Field::Text),
        ("co_qualname", Field::Text),
        ("co_linetable", Field::Bytes),
        ("co_exceptiontable", Field::Bytes),
    ],
    filename: 5,
    first_line: 8,
};

impl Layout {
    fn of(version: PythonVersion) -> Result<&'static Self, MarshalError> {
        match (version.major, version.minor) {
            (3, 9..=10) => Ok(&BEFORE_311),
            (3, 11..=14) => Ok(&SINCE_311),
            _ => Err(MarshalError::Version(version)),
        }
    }
}
