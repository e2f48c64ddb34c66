//! The tracer's loop: follows every process and thread, and turns their stops into counts.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString, c_int},
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::{
    calls::{self, Kind, Operation, Place},
    count::{Counts, End, normal},
    sys::{self, Event, Pid, Resume, Stop},
};

/// A thread under trace.
#[derive(Debug)]
struct Thread {
    /// The process it belongs to.
    process: Pid,
    /// The operation under way, counted when its result is known.
    pending: Option<(Kind, PathBuf)>,
}

/// The tracer's state.
struct Tracer<'a> {
    counts: &'a mut Counts,
    threads: HashMap<Pid, Thread>,
    /// For each process that lives, its place in the counts.
    processes: HashMap<Pid, usize>,
    /// Whether the command has started, as opposed to this program's fork that becomes it.
    launched: bool,
}

/// Runs a command to its end, and whatever it started to theirs; returns how the command ended.
///
/// # Errors
/// If tracing is forbidden here, or the kernel refuses a request.
pub(crate) fn run(command: &[OsString], counts: &mut Counts) -> anyhow::Result<End> {
    let first = sys::spawn(command).context(
        "can't trace the command: ptrace is forbidden here (a container's profile, or \
         kernel.yama.ptrace_scope above 1)",
    )?;
    let words = command
        .iter()
        .map(|word| word.to_string_lossy().into_owned());
    let index = counts.start(first, 0, words.collect(), "");
    let mut tracer = Tracer {
        counts,
        threads: HashMap::new(),
        processes: HashMap::from([(first, index)]),
        launched: false,
    };
    let mut result = End::Status(0);
    while let Some(event) = sys::wait().context("can't wait for the traced program")? {
        let (thread, end) = match event {
            Event::Stopped(thread, stop) => {
                let how = tracer.stopped(thread, stop);
                sys::resume(thread, how).context("can't resume a traced thread")?;
                continue;
            }
            Event::Exited(thread, status) => (thread, End::Status(status)),
            Event::Killed(thread, signal) => (thread, End::Signal(signal)),
        };
        tracer.ended(thread, end);
        if thread == first {
            result = end;
        }
    }
    Ok(result)
}

impl Tracer<'_> {
    fn stopped(&mut self, thread: Pid, stop: Stop) -> Resume {
        match stop {
            Stop::Enter => return self.enter(thread),
            Stop::Leave => self.leave(thread),
            Stop::Fork(new) => {
                self.adopt(new, Some(thread));
            }
            Stop::Exec(former) => self.replaced(thread, former),
            Stop::Signal(signal) => return Resume::Run(signal),
            Stop::Group => return Resume::Listen,
            Stop::Other => {}
        }
        Resume::Run(0)
    }

    fn enter(&mut self, thread: Pid) -> Resume {
        let Some(call) = sys::call(thread) else {
            return Resume::Run(0);
        };
        let process = self.adopt(thread, None);
        self.counts.call(process, call.number);
        let path = calls::path_operation(call.number)
            .and_then(|found| Some((found.kind, path_of(thread, found, &call.args)?)));
        match self.threads.get_mut(&thread) {
            Some(found) if path.is_some() => {
                found.pending = path;
                Resume::UntilLeave
            }
            _ => Resume::Run(0),
        }
    }

    fn leave(&mut self, thread: Pid) {
        let failed = sys::result(thread).is_some_and(|result| result < 0);
        self.finish(thread, failed);
    }

    /// A process runs another program; all its threads but one are gone.
    fn replaced(&mut self, thread: Pid, former: Pid) {
        let old = self.adopt(thread, None);
        self.finish(former, false);
        self.threads.retain(|_, found| found.process != thread);
        if !self.launched {
            // The command itself, whose counts have begun with this very call.
            self.launched = true;
            return;
        }
        let parent = self
            .counts
            .processes
            .get(old)
            .map_or(0, |found| found.parent);
        let index = self.counts.start(thread, parent, command_of(thread), "");
        self.processes.insert(thread, index);
    }

    fn ended(&mut self, thread: Pid, end: End) {
        self.threads.remove(&thread);
        // Of a process' threads the kernel reports the first one last.
        if let Some(index) = self.processes.remove(&thread)
            && let Some(process) = self.counts.processes.get_mut(index)
        {
            process.end = Some(end);
        }
    }

    /// Counts the operation that a thread had under way.
    fn finish(&mut self, thread: Pid, failed: bool) {
        let Some(found) = self.threads.get_mut(&thread) else {
            return;
        };
        if let (Some((kind, path)), Some(&process)) =
            (found.pending.take(), self.processes.get(&found.process))
        {
            self.counts.operation(process, kind, &path, failed);
        }
    }

    /// The place in the counts of a thread's process; a new one begins in its maker's phase.
    ///
    /// A thread's first stop may come before the report of who made it (`maker`).
    fn adopt(&mut self, thread: Pid, maker: Option<Pid>) -> usize {
        let process = match self.threads.get(&thread) {
            Some(found) => found.process,
            None => status_field(thread, "Tgid:").unwrap_or(thread),
        };
        self.threads.entry(thread).or_insert(Thread {
            process,
            pending: None,
        });
        if let Some(&index) = self.processes.get(&process) {
            return index;
        }
        let maker = match maker {
            Some(thread) => self.threads.get(&thread).map(|found| found.process),
            None => status_field(process, "PPid:"),
        };
        let from = maker.and_then(|maker| self.processes.get(&maker)).copied();
        let phase = from
            .map(|from| self.counts.phase_name(from))
            .unwrap_or_default();
        let command = command_of(process);
        let index = self
            .counts
            .start(process, maker.unwrap_or(0), command, &phase);
        self.processes.insert(process, index);
        index
    }
}

/// The absolute path that a call names; `None` if it is about a descriptor alone.
fn path_of(thread: Pid, operation: Operation, args: &[u64; 6]) -> Option<PathBuf> {
    let (folder, at) = match operation.place {
        Place::Descriptor(at) => return fs::read_link(descriptor(thread, args[at])).ok(),
        Place::Path(at) => (None, at),
        Place::At(at) => (Some(args[at]), at + 1),
    };
    let text = sys::read_string(thread, args[at])?;
    if text.is_empty() {
        let flags = operation.flags.map_or(0, |at| args[at]);
        if flags & libc::AT_EMPTY_PATH as u64 != 0 {
            return None;
        }
    }
    let path = Path::new(OsStr::from_bytes(&text));
    if path.is_absolute() {
        return Some(normal(Path::new("/"), path));
    }
    let folder = match folder {
        Some(number) if number as c_int != libc::AT_FDCWD => descriptor(thread, number),
        _ => PathBuf::from(format!("/proc/{thread}/cwd")),
    };
    Some(normal(&fs::read_link(folder).unwrap_or_default(), path))
}

fn descriptor(thread: Pid, number: u64) -> PathBuf {
    PathBuf::from(format!("/proc/{thread}/fd/{}", number as c_int))
}

/// The arguments of a running process.
fn command_of(process: Pid) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let words = bytes
        .strip_suffix(b"\0")
        .unwrap_or(&bytes)
        .split(|&byte| byte == 0);
    words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// A number from the kernel's description of a thread.
fn status_field(thread: Pid, name: &str) -> Option<Pid> {
    let text = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}
