//! Is this the first Python of its rank?
//!
//! A rank may be a wrapper that runs several Pythons one after the other, all with the launcher's
//! variables: only the first may join the job. It leaves a marker on the node, named after the
//! wrapper. A Python that the launcher itself has started is alone and needs none.

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use pybundle_load::{Settings, launch::Launch, transport::Launcher};

/// Begins the name of every marker.
const PREFIX: &str = "rank-";

/// Where this Python stands among those of its rank.
pub(super) enum Place {
    /// There can be no other.
    Only,
    /// The others will find its marker.
    First(Marker),
    /// An earlier one has joined.
    Later {
        /// Its node image, if it got that far.
        image: Option<PathBuf>,
        /// Nobody has told the user yet, and this process is to: one of the job is enough.
        says_so: bool,
    },
}

/// The first Python's marker.
pub(super) struct Marker {
    path: PathBuf,
    /// The wrapper's process.
    pub(super) wrapper: u32,
}

impl Marker {
    /// Tells later Pythons of the node image.
    pub(super) fn write(&self, image: &Path) {
        // They do without.
        let written = OpenOptions::new().write(true).open(&self.path);
        let _ = written.and_then(|mut file| file.write_all(image.as_os_str().as_bytes()));
    }
}

impl Place {
    /// Takes the first place, if it is free.
    pub(super) fn take(settings: &Settings) -> Self {
        let Some(wrapper) = wrapper() else {
            return Self::Only;
        };
        let Some(folder) = folder(settings) else {
            return Self::Only;
        };
        sweep(&folder);
        let path = folder.join(wrapper.marker());
        match create(&path) {
            Ok(_) => Self::First(Marker {
                path,
                wrapper: wrapper.pid,
            }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let image = fs::read(&path).ok().filter(|bytes| !bytes.is_empty());
                let mut said = path.into_os_string();
                said.push("-said");
                Self::Later {
                    image: image.map(|bytes| std::ffi::OsString::from_vec(bytes).into()),
                    says_so: is_first_rank() && create(Path::new(&said)).is_ok(),
                }
            }
            // Without a folder to write in there is no way to know.
            Err(_) => Self::Only,
        }
    }
}

fn is_first_rank() -> bool {
    let rank = Launcher::detect().and_then(|launcher| launcher.rank());
    rank.unwrap_or(0) == 0
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// The user's own folder on this node.
fn folder(settings: &Settings) -> Option<PathBuf> {
    let user = nix::unistd::geteuid();
    let temporary = env::var_os("TMPDIR").map(PathBuf::from);
    let candidates = [
        settings.node_dir.clone(),
        Some("/dev/shm".into()),
        temporary,
        Some("/tmp".into()),
    ];
    candidates
        .into_iter()
        .flatten()
        .map(|dir| dir.join(format!("pybundle-{user}")))
        .find(|folder| {
            let made = DirBuilder::new().mode(0o700).create(folder);
            let found = fs::symlink_metadata(folder);
            let ours = found.is_ok_and(|found| found.is_dir() && found.uid() == user.as_raw());
            ours && made.map_or_else(|error| error.kind() == ErrorKind::AlreadyExists, |()| true)
        })
}

/// A process, also after its number was given to another.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Running {
    pid: u32,
    /// In clock ticks after boot.
    started: u64,
}

impl Running {
    fn of(pid: u32) -> Option<(Self, u32)> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (parent, started) = parent_and_start(&stat)?;
        Some((Self { pid, started }, parent))
    }

    /// Pids mean nothing outside their namespace.
    fn marker(&self) -> String {
        format!("{PREFIX}{}-{}-{}", namespace(), self.pid, self.started)
    }

    fn of_marker(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(PREFIX)?.split('-');
        if parts.next()? != namespace() {
            return None;
        }
        Some(Self {
            pid: parts.next()?.parse().ok()?,
            started: parts.next()?.parse().ok()?,
        })
    }
}

fn namespace() -> String {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_string_lossy()
        .chars()
        .filter(char::is_ascii_digit)
        .collect()
}

/// Parent and start time from `/proc/PID/stat`; the name before them may hold anything.
fn parent_and_start(stat: &str) -> Option<(u32, u64)> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let parent = fields.nth(1)?.parse().ok()?;
    Some((parent, fields.nth(17)?.parse().ok()?))
}

/// The outermost process of this rank, if that is not this process.
fn wrapper() -> Option<Running> {
    let launch = Launch::of_this_process();
    let (_, mut parent) = Running::of(std::process::id())?;
    let mut outermost = None;
    while parent > 1 {
        let environment = fs::read(format!("/proc/{parent}/environ")).unwrap_or_default();
        if !launch.is_in(&environment) {
            break;
        }
        let (process, next) = Running::of(parent)?;
        outermost = Some(process);
        parent = next;
    }
    outermost
}

/// Removes the markers of wrappers that have ended.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(Running::of_marker) else {
            continue;
        };
        let lives = Running::of(process.pid).is_some_and(|(now, _)| now == process);
        if !lives {
            // Another may have been faster.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_from_its_stat_line() {
        let stat = "42 (a) (b) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 4096 1 x";
        assert_eq!(parent_and_start(stat), Some((7, 98765)));
        let (this, _) = Running::of(std::process::id()).unwrap();
        assert_eq!(Running::of_marker(&this.marker()), Some(this.clone()));
        assert_eq!(
            Running::of_marker(&format!("{}-said", this.marker())),
            Some(this)
        );
        assert_eq!(Running::of_marker("rank-1-2-3"), None);
    }

    #[test]
    fn markers_of_ended_wrappers_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let (this, _) = Running::of(std::process::id()).unwrap();
        let dead = Running {
            started: this.started + 1,
            ..this.clone()
        };
        for process in [&this, &dead] {
            create(&folder.path().join(process.marker())).unwrap();
        }
        sweep(folder.path());
        assert!(folder.path().join(this.marker()).exists());
        assert!(!folder.path().join(dead.marker()).exists());
    }
}
