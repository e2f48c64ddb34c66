//! What can go wrong while a bundle is loaded or a file is placed, in words for the user.

use std::{io, path::PathBuf};

use crate::transport;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The caller's tick wants the load to end: a signal arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Why loading, attaching or placing failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An environment variable's value means nothing.
    #[error("`{name}`: expected {expected}, got `{got}`")]
    Setting {
        /// The variable.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// The bundle was refused.
    #[error(transparent)]
    Bundle(#[from] pybundle_bundle::Error),
    /// A file or folder could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The ranks could not talk.
    #[error(transparent)]
    Transport(#[from] transport::Error),
    /// No folder of the node can hold the image.
    #[error("no folder on {node} can hold the image: {reasons}")]
    NoFolder {
        /// Host name.
        node: String,
        /// Each candidate with its reason.
        reasons: String,
    },
    /// The node's folder ran out of room, or of what a limit allows.
    #[error(
        "no room on {node}: expected {need} bytes, got {free}: `{}`",
        path.display()
    )]
    Room {
        /// Host name.
        node: String,
        /// Where.
        path: PathBuf,
        /// Bytes needed.
        need: u64,
        /// Bytes free.
        free: u64,
    },
    /// A folder or image that can't be trusted or isn't whole.
    #[error("cannot use the node image: {why}: `{}`", path.display())]
    Image {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A folder that an environment can't be unpacked to.
    #[error("cannot unpack there: {why}: `{}`", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is expected, and what is there.
        why: String,
    },
    /// The bundle that cold entries are read from is not the one that was loaded.
    #[error("bundle has changed or vanished since it was loaded: {why}: `{}`", path.display())]
    Changed {
        /// The bundle.
        path: PathBuf,
        /// What is different.
        why: String,
    },
    /// An entry that could not be put into the image.
    #[error("{source}: `{entry}` of bundle `{}`", bundle.display())]
    Entry {
        /// Its path inside the bundle.
        entry: String,
        /// The bundle.
        bundle: PathBuf,
        /// Why.
        source: Box<Error>,
    },
    /// A row that the index doesn't have.
    #[error("the index has no {what} {row}")]
    Row {
        /// `entry`, `group`.
        what: &'static str,
        /// The row asked for.
        row: u32,
    },
    /// Nothing moved for too long.
    #[error("no progress for {seconds:.0} s: {who} waits for {what}")]
    TimedOut {
        /// Which rank, on which node.
        who: String,
        /// What it waits for.
        what: String,
        /// How long.
        seconds: f64,
    },
    /// The caller's tick ended a wait.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// A file that isn't a receipt, or is one of a newer version.
    #[error("not a receipt that this pybundle reads: {why}: `{}`", path.display())]
    Receipt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Our bug: a worker thread panicked.
    #[error("internal error: {0}")]
    Internal(String),
    /// What all ranks agreed on: the first error of the lowest rank that had one.
    #[error("{text}")]
    Agreed {
        /// That rank's text.
        text: String,
        /// The rank.
        rank: u32,
        /// Ranks of the job.
        size: u32,
        /// This is that rank: it is the one that prints.
        speaks: bool,
        /// It was interrupted, not refused.
        interrupted: bool,
    },
}

impl Error {
    /// Should this rank print the message? Exactly one rank does where the ranks could agree.
    pub fn speaks(&self) -> bool {
        match self {
            Self::Agreed { speaks, .. } => *speaks,
            _ => true,
        }
    }

    /// The other ranks don't know of this error and may wait for this one: after printing, the
    /// caller must end the job with [`transport::Transport::abort`].
    pub fn must_abort(&self) -> bool {
        !matches!(self, Self::Agreed { .. } | Self::Setting { .. })
    }

    /// Did a signal end the load?
    pub fn interrupted(&self) -> bool {
        match self {
            Self::Interrupted(_) => true,
            Self::Agreed { interrupted, .. } => *interrupted,
            _ => false,
        }
    }

    /// The operating system's error number, where there is one: `ENOSPC` for lack of room.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Io(error) => error.raw_os_error().or_else(|| {
                let inner = error.get_ref()?;
                let source = inner.source()?.downcast_ref::<io::Error>()?;
                source.raw_os_error()
            }),
            Self::Entry { source, .. } => source.errno(),
            Self::Room { .. } | Self::NoFolder { .. } => Some(libc::ENOSPC),
            _ => None,
        }
    }

    /// Was it lack of room or of permission on the node, not something wrong with the bundle?
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Room { .. } | Self::NoFolder { .. } | Self::Image { .. } => true,
            Self::Io(_) => matches!(
                self.errno(),
                Some(
                    libc::ENOSPC
                        | libc::EDQUOT
                        | libc::EFBIG
                        | libc::EACCES
                        | libc::EPERM
                        | libc::EROFS
                        | libc::ENOMEM
                        | libc::EMFILE
                        | libc::ENFILE
                )
            ),
            Self::Entry { source, .. } => source.is_local(),
            _ => false,
        }
    }
}

/// Cuts a text to at most so many bytes.
pub(crate) fn shorten(text: &mut String, most: usize) {
    if text.len() > most {
        let end = (0..=most).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
    }
}

/// An operating system's error with what was tried and where.
pub(crate) fn io_at(
    what: &'static str,
    path: &std::path::Path,
    error: impl Into<io::Error>,
) -> Error {
    #[derive(Debug, thiserror::Error)]
    #[error("{what}: {source}: `{}`", path.display())]
    struct At {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    }
    let source = error.into();
    let kind = source.kind();
    let path = path.to_owned();
    Error::Io(io::Error::new(kind, At { what, path, source }))
}
