//! How much a folder of the node can hold: bytes, files, the longest file.
//!
//! Memory file systems are bounded by more than their own size: by what the machine has free and by
//! the memory limits of every control group above this process. A control group's limit is a kill,
//! not an error code, so it is foreseen here.

use std::path::{Path, PathBuf};

use nix::sys::{
    resource::{Resource, getrlimit},
    statfs::{FsType, statfs},
    statvfs::statvfs,
};

use crate::{
    Result,
    mounts::{self, Mount},
};

/// What a folder can take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes.
    pub(crate) bytes: u64,
    /// What bounds the bytes, for messages.
    pub(crate) bound: String,
    /// Files and folders; `u64::MAX` where the file system doesn't count them.
    pub(crate) files: u64,
    /// Longest file.
    pub(crate) longest: u64,
}

/// What an image takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// Bytes.
    pub(crate) bytes: u64,
    /// Files and folders.
    pub(crate) files: u64,
    /// Longest file.
    pub(crate) longest: u64,
}

impl Room {
    /// Measures a folder.
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        let volume = statvfs(folder).map_err(std::io::Error::from)?;
        let mut room = Self {
            bytes: volume.blocks_available() as u64 * volume.fragment_size() as u64,
            bound: "the file system".to_owned(),
            files: if volume.files() == 0 {
                u64::MAX
            } else {
                volume.files_available() as u64
            },
            longest: getrlimit(Resource::RLIMIT_FSIZE).map_or(u64::MAX, |(soft, _)| soft),
        };
        if is_memory(folder)? {
            if let Some(free) = memory_available() {
                room.lower(free, "free memory".to_owned());
            }
            for (free, group) in control_groups() {
                room.lower(free, format!("the memory limit of `{}`", group.display()));
            }
        }
        Ok(room)
    }

    fn lower(&mut self, bytes: u64, bound: String) {
        if bytes < self.bytes {
            self.bytes = bytes;
            self.bound = bound;
        }
    }

    /// Why it doesn't fit, in words; `None` if it does.
    pub(crate) fn lacks(&self, need: Need) -> Option<String> {
        if need.bytes > self.bytes {
            let (bytes, free, bound) = (need.bytes, self.bytes, &self.bound);
            return Some(format!("need {bytes} bytes, {bound} leaves {free}"));
        }
        if need.files > self.files {
            return Some(format!("need {} files, {} left", need.files, self.files));
        }
        if need.longest > self.longest {
            let (longest, limit) = (need.longest, self.longest);
            return Some(format!(
                "need a file of {longest} bytes, `ulimit -f` allows {limit}"
            ));
        }
        None
    }
}

const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58f6;

/// Do files of this folder lie in memory?
pub(crate) fn is_memory(folder: &Path) -> Result<bool> {
    Ok(matches!(file_system(folder)?, TMPFS | RAMFS))
}

/// File systems that several machines share, or may: their locks are emulated or missing.
const SHARED: [(i64, &str); 19] = [
    (0x6969, "NFS"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x6573_5546, "FUSE"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x7461_636f, "OCFS2"),
    (0x0116_1970, "GFS2"),
    (0xaad7_aaea, "PanFS"),
    (0x7375_7245, "Coda"),
    (0x0102_1997, "9P"),
    (0x2003_0528, "OrangeFS"),
    (0x786f_4256, "a virtual machine's share"),
    (0x0000_564c, "NCP"),
];

/// The name of the shared file system that a folder lies on; `None` for a local one.
pub(crate) fn shared_file_system(folder: &Path) -> Result<Option<&'static str>> {
    let kind = file_system(folder)?;
    let found = SHARED.iter().find(|(number, _)| *number == kind);
    Ok(found.map(|&(_, name)| name))
}

fn file_system(folder: &Path) -> Result<i64> {
    let FsType(kind) = statfs(folder)
        .map_err(std::io::Error::from)?
        .filesystem_type();
    Ok(kind & 0xffff_ffff)
}

fn memory_available() -> Option<u64> {
    let text = fs_err::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// What each memory-limited control group above this process still allows.
fn control_groups() -> Vec<(u64, PathBuf)> {
    groups(
        &fs_err::read_to_string("/proc/self/cgroup").unwrap_or_default(),
        &fs_err::read("/proc/self/mountinfo").unwrap_or_default(),
        |path| fs_err::read_to_string(path).ok(),
    )
}

fn groups(
    memberships: &str,
    mounts: &[u8],
    read: impl Fn(&Path) -> Option<String>,
) -> Vec<(u64, PathBuf)> {
    let mut found = Vec::new();
    for line in memberships.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let unified = controllers.is_empty();
        if !unified && controllers.split(',').all(|name| name != "memory") {
            continue;
        }
        let Some((root, top)) = mount(mounts, unified) else {
            continue;
        };
        let below = Path::new(path);
        let below = below.strip_prefix(&root).unwrap_or(below);
        let below = below.strip_prefix("/").unwrap_or(below);
        let group = top.join(below);
        for group in group.ancestors().take_while(|path| path.starts_with(&top)) {
            if let Some(free) = group_room(group, unified, &read) {
                found.push((free, group.to_owned()));
            }
        }
    }
    found
}

/// Where the hierarchy is mounted: the group that is its root, and the folder.
fn mount(mountinfo: &[u8], unified: bool) -> Option<(PathBuf, PathBuf)> {
    let fits = |mount: &Mount| {
        let mut options = mount.options.split(',');
        match mount.kind.as_str() {
            "cgroup2" => unified,
            "cgroup" => !unified && options.any(|option| option == "memory"),
            _ => false,
        }
    };
    let mount = mounts::all(mountinfo).find(fits)?;
    Some((mount.root, mount.place))
}

fn group_room(group: &Path, unified: bool, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let number = |name: &str| read(&group.join(name))?.trim().parse::<u64>().ok();
    let (limit, used) = if unified {
        (number("memory.max")?, number("memory.current")?)
    } else {
        let limit = number("memory.limit_in_bytes")?;
        (limit, number("memory.usage_in_bytes")?)
    };
    // Without a limit, version 1 says the largest number of pages that it can count.
    if limit >= 1 << 60 {
        return None;
    }
    // What the file cache holds is given back when it is needed.
    let name = if unified {
        "inactive_file"
    } else {
        "total_inactive_file"
    };
    let cache = read(&group.join("memory.stat")).and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.trim().parse::<u64>().ok()
    });
    Some(limit.saturating_sub(used.saturating_sub(cache.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_said() {
        let room = Room {
            bytes: 100,
            bound: "free memory".to_owned(),
            files: 10,
            longest: 50,
        };
        let need = |bytes, files, longest| Need {
            bytes,
            files,
            longest,
        };
        assert_eq!(room.lacks(need(100, 10, 50)), None);
        assert_eq!(
            room.lacks(need(101, 1, 1)).unwrap(),
            "need 101 bytes, free memory leaves 100"
        );
        assert_eq!(
            room.lacks(need(1, 11, 1)).unwrap(),
            "need 11 files, 10 left"
        );
        assert_eq!(
            room.lacks(need(1, 1, 51)).unwrap(),
            "need a file of 51 bytes, `ulimit -f` allows 50"
        );
    }

    #[test]
    fn this_machine_has_room_for_something() {
        let room = Room::of(Path::new("/dev/shm")).unwrap();
        assert!(
            room.bytes > 0 && room.files > 0 && room.longest > 0,
            "{room:?}"
        );
        assert_eq!(shared_file_system(Path::new("/proc")).unwrap(), None);
    }

    #[test]
    fn every_ancestor_with_a_limit_counts() {
        let mounts = b"\
30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate
31 23 0:27 /out\\134x2der /cg/memory rw - cgroup cgroup rw,memory
";
        let read = |path: &Path| {
            let text = match path.to_str()? {
                "/sys/fs/cgroup/job/step/memory.max" => "max",
                "/sys/fs/cgroup/job/memory.max" => "1000",
                "/sys/fs/cgroup/job/memory.current" => "700",
                "/sys/fs/cgroup/job/memory.stat" => "anon 1\ninactive_file 50\n",
                "/cg/memory/a/memory.limit_in_bytes" => "9223372036854771712",
                "/cg/memory/a/memory.usage_in_bytes" | "/cg/memory/memory.usage_in_bytes" => "10",
                "/cg/memory/memory.limit_in_bytes" => "30",
                _ => return None,
            };
            Some(text.to_owned())
        };
        let found = groups("0::/job/step\n", mounts, read);
        assert_eq!(found, [(350, PathBuf::from("/sys/fs/cgroup/job"))]);
        let found = groups("5:cpu:/x\n9:memory,cpu:/out\\x2der/a\n", mounts, read);
        assert_eq!(found, [(20, PathBuf::from("/cg/memory"))]);
    }
}
