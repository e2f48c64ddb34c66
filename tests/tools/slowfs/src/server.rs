//! The metadata server and the link: who must wait how long, and who asked for what.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::unistd::Pid;
use serde::Serialize;
use serde_json::json;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A name that is there.
    Lookup,
    /// A name that isn't.
    Absent,
    /// A folder's attributes.
    Attributes,
    /// What a symbolic link names.
    Link,
    /// A folder's entries.
    List,
}

/// What was asked for below one folder.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    asked: BTreeMap<(PathBuf, Kind), u64>,
    clients: HashSet<Pid>,
    /// Bytes read.
    pub(crate) bytes: u64,
}

impl Counts {
    /// How many requests the metadata server answered.
    pub(crate) fn requests(&self) -> u64 {
        self.asked.values().sum()
    }

    /// How many processes asked.
    pub(crate) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// As README.md describes it.
    pub(crate) fn json(&self, folder: &Path) -> serde_json::Value {
        let mut names: BTreeMap<_, BTreeMap<Kind, u64>> = BTreeMap::new();
        for ((path, kind), count) in &self.asked {
            names
                .entry(path.to_string_lossy())
                .or_default()
                .insert(*kind, *count);
        }
        json!({
            "path": folder.to_string_lossy(),
            "requests": self.requests(),
            "clients": self.clients(),
            "bytes": self.bytes,
            "names": names,
        })
    }
}

/// Something that serves one client at a time.
#[derive(Debug)]
struct Queue(Mutex<Instant>);

impl Queue {
    fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// Waits for one's turn and the service.
    fn serve(&self, service: Duration) {
        let done = {
            let mut free = locked(&self.0);
            *free = (*free).max(Instant::now()) + service;
            *free
        };
        thread::sleep(done.saturating_duration_since(Instant::now()));
    }
}

/// Who asks for what: a process, below a folder, for a path, in a way.
type Question = (Pid, usize, PathBuf, Kind);

/// The file system behind all folders shown.
#[derive(Debug)]
pub(crate) struct Server {
    service: Duration,
    /// Bytes a second.
    rate: Option<u64>,
    metadata: Queue,
    link: Queue,
    counts: Mutex<HashMap<usize, Counts>>,
    /// What the clients' caches hold.
    known: Mutex<HashSet<Question>>,
    /// The process of each thread that asked: numbers come again after millions of others.
    processes: Mutex<HashMap<u32, Pid>>,
}

impl Server {
    /// A server with cold clients.
    pub(crate) fn new(service: Duration, rate: Option<u64>) -> Self {
        Self {
            service,
            rate,
            metadata: Queue::new(),
            link: Queue::new(),
            counts: Mutex::default(),
            known: Mutex::default(),
            processes: Mutex::default(),
        }
    }

    /// A process asks something that its client can know already.
    pub(crate) fn ask(&self, thread: u32, folder: usize, path: &Path, kind: Kind) {
        let client = self.client(thread);
        // A client that knows a name is there doesn't ask whether it isn't.
        let what = if kind == Kind::Absent {
            Kind::Lookup
        } else {
            kind
        };
        let question = (client, folder, path.to_owned(), what);
        if locked(&self.known).insert(question) {
            self.count(client, folder, path, kind);
        }
    }

    /// A process asks something that it must ask every time.
    pub(crate) fn ask_again(&self, thread: u32, folder: usize, path: &Path, kind: Kind) {
        self.count(self.client(thread), folder, path, kind);
    }

    /// Some bytes of a file are on their way.
    pub(crate) fn transfer(&self, folder: usize, bytes: usize) {
        locked(&self.counts).entry(folder).or_default().bytes += bytes as u64;
        if let Some(rate) = self.rate {
            self.link
                .serve(Duration::from_secs_f64(bytes as f64 / rate as f64));
        }
    }

    /// What has been counted for the first `folders` folders.
    pub(crate) fn counts(&self, folders: usize) -> Vec<Counts> {
        let mut counts = locked(&self.counts);
        (0..folders)
            .map(|folder| counts.remove(&folder).unwrap_or_default())
            .collect()
    }

    fn client(&self, thread: u32) -> Pid {
        *locked(&self.processes)
            .entry(thread)
            .or_insert_with(|| process_of(thread))
    }

    fn count(&self, client: Pid, folder: usize, path: &Path, kind: Kind) {
        {
            let mut counts = locked(&self.counts);
            let counts = counts.entry(folder).or_default();
            *counts.asked.entry((path.to_owned(), kind)).or_default() += 1;
            counts.clients.insert(client);
        }
        self.metadata.serve(self.service);
    }
}

/// The process that a thread belongs to; the kernel names the thread that asks.
fn process_of(thread: u32) -> Pid {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    let process = process.and_then(|number| number.trim().parse().ok());
    Pid::from_raw(process.unwrap_or(thread.cast_signed()))
}

/// The counts of a thread that panicked are as good as any.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
