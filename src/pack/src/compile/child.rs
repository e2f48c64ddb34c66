//! A process of the interpreter that is never waited for without end.

use std::{
    io::Read,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    time::{Duration, Instant},
};

/// Bytes of stderr that are kept for the message when a process fails.
const KEPT_STDERR: usize = 2048;

/// The command that runs `script`, isolated from the caller's settings.
///
/// `-I`: no `PYTHON*` variable, no user site, no working directory in `sys.path`;
/// `-B`: the environment that is packed isn't written to.
pub(super) fn isolated(interpreter: &Path, options: &[&str], script: &str) -> Command {
    let mut command = Command::new(interpreter);
    for (name, _) in std::env::vars_os() {
        if name.as_bytes().starts_with(b"PYTHON") {
            command.env_remove(&name);
        }
    }
    // macOS's and some virtual environments' launchers look at this one.
    command.env_remove("__PYVENV_LAUNCHER__");
    command
        .args(["-I", "-B"])
        .args(options)
        .args(["-c", script]);
    command
}

/// A running process, shared by who talks to it and who watches its time.
#[derive(Debug)]
pub(super) struct Running {
    child: Mutex<Child>,
    deadline: Mutex<Option<Instant>>,
    late: AtomicBool,
}

impl Running {
    /// Sets the time at which [`Self::kill_if_late`] kills it; `None`: never.
    pub(super) fn set_deadline(&self, deadline: Option<Instant>) {
        *lock(&self.deadline) = deadline;
    }

    /// Kills the process if its deadline is over.
    pub(super) fn kill_if_late(&self, now: Instant) {
        let deadline = lock(&self.deadline);
        if deadline.is_some_and(|deadline| deadline <= now) {
            self.late.store(true, Ordering::Relaxed);
            self.kill();
        }
    }

    /// It was killed because its deadline was over.
    pub(super) fn was_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    /// Ends it at once; it is no error if it has ended already.
    pub(super) fn kill(&self) {
        let _ended_already = lock(&self.child).kill();
    }

    /// Waits for its end and keeps its deadline meanwhile.
    ///
    /// # Errors
    /// Those of `waitpid`.
    pub(super) fn wait(&self) -> std::io::Result<ExitStatus> {
        // Polled, so that whoever watches the deadline can get hold of the child.
        let mut pause = Duration::from_micros(50);
        loop {
            if let Some(status) = lock(&self.child).try_wait()? {
                return Ok(status);
            }
            self.kill_if_late(Instant::now());
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
    }
}

/// Reads a stream to its end beside the caller, so that the pipe never fills up.
#[derive(Debug)]
pub(super) struct Drain(Receiver<Vec<u8>>);

impl Drain {
    /// Keeps the last `limit` bytes.
    pub(super) fn new(
        mut stream: impl Read + Send + 'static,
        limit: usize,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(1);
        std::thread::Builder::new()
            .name("drain".into())
            .spawn(move || {
                let mut kept = Vec::new();
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    kept.extend_from_slice(&buffer[..count]);
                    kept.drain(..kept.len().saturating_sub(limit));
                }
                // Nobody may be interested any more.
                let _ = sender.send(kept);
            })?;
        Ok(Self(receiver))
    }

    /// What was kept, when the process has ended. Something that the process left
    /// behind may hold the stream open: then it is given up after a second.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0
            .recv_timeout(Duration::from_secs(1))
            .unwrap_or_default()
    }
}

/// What [`start`] gives.
pub(super) struct Started {
    pub(super) running: Running,
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: Drain,
}

/// Starts a process with all three streams as pipes.
pub(super) fn start(command: &mut Command) -> std::io::Result<Started> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = streams else {
        return Err(std::io::Error::other("a pipe is missing"));
    };
    let running = Running {
        child: Mutex::new(child),
        deadline: Mutex::new(None),
        late: AtomicBool::new(false),
    };
    Ok(Started {
        running,
        stdin,
        stdout,
        stderr: Drain::new(stderr, KEPT_STDERR)?,
    })
}

/// How a process ended, for messages: its status and the last line of its stderr.
pub(super) fn ending(running: &Running, stderr: &Drain) -> String {
    let status = running
        .wait()
        .map_or_else(|error| error.to_string(), |s| s.to_string());
    let bytes = stderr.bytes();
    let text = String::from_utf8_lossy(&bytes);
    match text.trim_end().lines().next_back() {
        Some(line) => format!("{status}: {line}"),
        None => status,
    }
}

/// The lock's content; what it guards stays sound if a holder panicked.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
