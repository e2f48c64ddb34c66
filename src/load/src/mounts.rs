//! The mounted file systems that processes see, as proc(5) describes `mountinfo`.
//!
//! A batch system may give every job a `/dev/shm` and `/tmp` of its own, by a mount namespace
//! (Slurm's `job_container/tmpfs`). What is left there is gone with the job.

use std::{
    ffi::OsString,
    fs,
    os::unix::{ffi::OsStringExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

/// A mounted file system.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Its device's numbers.
    device: String,
    /// The folder in it that is to be seen.
    pub(crate) root: PathBuf,
    /// Where that is to be seen.
    pub(crate) place: PathBuf,
    /// What file system it is.
    pub(crate) kind: String,
    /// The file system's own options.
    pub(crate) options: String,
}

/// The inode of the node's own process namespace: `PROC_PID_INIT_INO` of Linux.
const NODE: u64 = 0xEFFF_FFFC;

/// Does a folder lie on a file system that the node's other jobs don't see there? `None` where it
/// can't be told.
pub(crate) fn is_private(folder: &Path) -> Option<bool> {
    // In a container the first process is the container's.
    if fs::metadata("/proc/self/ns/pid").ok()?.ino() != NODE {
        return None;
    }
    let read = |process: &str| fs::read(format!("/proc/{process}/mountinfo")).ok();
    let (own, first) = (under(&read("self")?, folder)?, under(&read("1")?, folder)?);
    let leads = |mount: Mount| (mount.device, mount.root, mount.place);
    Some(leads(own) != leads(first))
}

/// All mounts, in the order in which they were made.
pub(crate) fn all(mountinfo: &[u8]) -> impl Iterator<Item = Mount> {
    let lines = mountinfo.split(|&byte| byte == b'\n');
    lines.filter_map(parse)
}

/// The mount that a path leads to.
fn under(mountinfo: &[u8], folder: &Path) -> Option<Mount> {
    let above = all(mountinfo).filter(|mount| folder.starts_with(&mount.place));
    // Of several at one place the last is on top.
    above.max_by_key(|mount| mount.place.components().count())
}

fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ').skip(2);
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let device = text(fields.next()?);
    let (root, place) = (unescaped(fields.next()?), unescaped(fields.next()?));
    // Optional fields end with this one.
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    Some(Mount {
        device,
        root,
        place,
        kind: text(rest.next()?),
        options: text(rest.nth(1)?),
    })
}

/// Blanks and backslashes are written as a backslash and three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [byte, tail @ ..] = rest {
        let code = (*byte == b'\\').then(|| tail.get(..3)).flatten();
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(escaped) = code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            path.push(escaped);
            rest = &tail[3..];
        } else {
            path.push(*byte);
            rest = tail;
        }
    }
    OsString::from_vec(path).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &[u8] = b"\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
23 22 0:21 / /dev/shm rw,nosuid shared:3 - tmpfs tmpfs rw
24 22 8:2 / /tmp rw - ext4 /dev/sda2 rw
";

    #[test]
    fn the_topmost_mount_above_a_folder_is_found() {
        let place = |mounts: &[u8], folder: &str| under(mounts, Path::new(folder)).unwrap().place;
        assert_eq!(place(NODE, "/dev/shm/pybundle-7"), Path::new("/dev/shm"));
        assert_eq!(place(NODE, "/dev/shmx"), Path::new("/"));
        let over = [NODE, b"30 23 0:44 / /dev/shm rw - tmpfs tmpfs rw\n"].concat();
        assert_eq!(under(&over, Path::new("/dev/shm")).unwrap().device, "0:44");
        let blank = [NODE, b"31 22 0:45 / /local\\040disk\\134a rw - xfs x rw\n"].concat();
        assert_eq!(
            place(&blank, "/local disk\\a/b"),
            Path::new("/local disk\\a")
        );
        assert!(under(b"", Path::new("/tmp")).is_none());
        assert!(under(b"22 1 8:1", Path::new("/tmp")).is_none());
    }

    #[test]
    fn a_jobs_own_folder_of_the_same_disk_is_another_mount() {
        let job = String::from_utf8_lossy(NODE).replace("24 22 8:2 / /tmp", "24 22 8:2 /job7 /tmp");
        let folder = Path::new("/tmp/x");
        assert_ne!(under(job.as_bytes(), folder), under(NODE, folder));
        let shm = Path::new("/dev/shm");
        assert_eq!(under(job.as_bytes(), shm), under(NODE, shm));
    }
}
