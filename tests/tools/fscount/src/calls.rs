//! Which system calls name a path, what they do to it, and in which argument it is.

use std::ffi::c_long;

/// What an operation does to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Asks for attributes.
    Stat,
    /// Opens, or creates by opening.
    Open,
    /// Reads a symbolic link.
    Readlink,
    /// Asks for permission.
    Access,
    /// Lists a folder that is open.
    Getdents,
    /// Starts a program.
    Exec,
    /// Changes the file system.
    Change,
    /// Anything else with a path.
    Other,
}

/// Where a call has its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this argument, relative to the working directory.
    Path(usize),
    /// In the argument after this one, which is a folder's descriptor.
    At(usize),
    /// The path of an open descriptor.
    Descriptor(usize),
}

/// A path that a call names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operation {
    /// What it does.
    pub(crate) kind: Kind,
    /// Where the path is.
    pub(crate) place: Place,
    /// The argument with flags, if an empty path can mean the descriptor itself.
    pub(crate) flags: Option<usize>,
}

const fn operation(kind: Kind, place: Place) -> Operation {
    Operation {
        kind,
        place,
        flags: None,
    }
}

const fn flagged(kind: Kind, flags: usize) -> Operation {
    Operation {
        kind,
        place: Place::At(0),
        flags: Some(flags),
    }
}

/// The path operation that a call is; `None` if it names no path.
///
/// Of calls with two paths the first counts.
pub(crate) fn path_operation(number: c_long) -> Option<Operation> {
    #[cfg(target_arch = "x86_64")]
    if let Some(found) = old_operation(number) {
        return Some(found);
    }
    Some(match number {
        libc::SYS_newfstatat => flagged(Kind::Stat, 3),
        libc::SYS_statx => flagged(Kind::Stat, 2),
        libc::SYS_openat | libc::SYS_openat2 => operation(Kind::Open, Place::At(0)),
        libc::SYS_readlinkat => operation(Kind::Readlink, Place::At(0)),
        libc::SYS_faccessat => operation(Kind::Access, Place::At(0)),
        libc::SYS_faccessat2 => flagged(Kind::Access, 3),
        libc::SYS_getdents64 => operation(Kind::Getdents, Place::Descriptor(0)),
        libc::SYS_execve => operation(Kind::Exec, Place::Path(0)),
        libc::SYS_execveat => flagged(Kind::Exec, 4),
        libc::SYS_mkdirat
        | libc::SYS_mknodat
        | libc::SYS_unlinkat
        | libc::SYS_renameat2
        | libc::SYS_fchmodat
        | libc::SYS_utimensat => operation(Kind::Change, Place::At(0)),
        libc::SYS_fchownat | libc::SYS_linkat => flagged(Kind::Change, 4),
        libc::SYS_symlinkat => operation(Kind::Change, Place::At(1)),
        libc::SYS_truncate
        | libc::SYS_setxattr
        | libc::SYS_lsetxattr
        | libc::SYS_removexattr
        | libc::SYS_lremovexattr => operation(Kind::Change, Place::Path(0)),
        libc::SYS_getxattr
        | libc::SYS_lgetxattr
        | libc::SYS_listxattr
        | libc::SYS_llistxattr
        | libc::SYS_statfs
        | libc::SYS_chdir
        | libc::SYS_chroot => operation(Kind::Other, Place::Path(0)),
        libc::SYS_inotify_add_watch => operation(Kind::Other, Place::Path(1)),
        libc::SYS_name_to_handle_at => flagged(Kind::Other, 4),
        _ => return None,
    })
}

/// Calls that only the older tables have.
#[cfg(target_arch = "x86_64")]
fn old_operation(number: c_long) -> Option<Operation> {
    Some(match number {
        libc::SYS_stat | libc::SYS_lstat => operation(Kind::Stat, Place::Path(0)),
        libc::SYS_open | libc::SYS_creat => operation(Kind::Open, Place::Path(0)),
        libc::SYS_readlink => operation(Kind::Readlink, Place::Path(0)),
        libc::SYS_access => operation(Kind::Access, Place::Path(0)),
        libc::SYS_getdents => operation(Kind::Getdents, Place::Descriptor(0)),
        libc::SYS_mkdir
        | libc::SYS_rmdir
        | libc::SYS_mknod
        | libc::SYS_unlink
        | libc::SYS_rename
        | libc::SYS_link
        | libc::SYS_chmod
        | libc::SYS_chown
        | libc::SYS_lchown
        | libc::SYS_utime
        | libc::SYS_utimes => operation(Kind::Change, Place::Path(0)),
        libc::SYS_futimesat | libc::SYS_renameat | libc::SYS_fchmodat2 => {
            operation(Kind::Change, Place::At(0))
        }
        libc::SYS_symlink => operation(Kind::Change, Place::Path(1)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_on_a_descriptor_alone_is_no_path_operation() {
        assert_eq!(path_operation(libc::SYS_fstat), None);
        assert_eq!(path_operation(libc::SYS_read), None);
        assert_eq!(path_operation(libc::SYS_fchdir), None);
    }

    #[test]
    fn an_empty_path_is_told_apart_where_flags_allow_it() {
        let stat = path_operation(libc::SYS_newfstatat).map(|found| (found.kind, found.flags));
        assert_eq!(stat, Some((Kind::Stat, Some(3))));
        let open = path_operation(libc::SYS_openat).map(|found| (found.kind, found.flags));
        assert_eq!(open, Some((Kind::Open, None)));
    }
}
