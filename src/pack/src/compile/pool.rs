//! Processes that compile side by side.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError, Weak,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

use super::{
    child::{Running, lock},
    worker::{CompileError, Worker},
};

/// How often the watch looks at deadlines.
const WATCH: Duration = Duration::from_millis(250);

/// Up to `workers` processes of one interpreter.
///
/// [`Pool::compile`] is called from as many threads as there is other work for:
/// while a process compiles, its caller sleeps, so that as many threads as processes
/// keep as many cores busy. Processes are started when they are first needed; one
/// that dies takes only its file with it.
pub struct Pool {
    interpreter: PathBuf,
    limit: Duration,
    state: Mutex<State>,
    /// A process became idle or may be started.
    free: Condvar,
    /// Processes that may have a deadline.
    watched: Arc<Mutex<Vec<Weak<Running>>>>,
    /// Ends the watch when it is dropped.
    _watch: Sender<()>,
}

struct State {
    idle: Vec<Worker>,
    /// Processes that may still be started.
    unstarted: usize,
}

impl Pool {
    /// A pool of `workers` processes in which no file takes longer than `limit`.
    ///
    /// # Errors
    /// [`CompileError::Start`] if the first process can't be started.
    pub fn new(
        interpreter: &Path,
        workers: NonZeroUsize,
        limit: Duration,
    ) -> Result<Self, CompileError> {
        let watched = Arc::new(Mutex::new(Vec::new()));
        let watch = watch(Arc::clone(&watched)).map_err(|error| CompileError::Start {
            interpreter: interpreter.to_owned(),
            reason: error.to_string(),
        })?;
        let pool = Self {
            interpreter: interpreter.to_owned(),
            limit,
            state: Mutex::new(State {
                idle: Vec::new(),
                unstarted: workers.get() - 1,
            }),
            free: Condvar::new(),
            watched,
            _watch: watch,
        };
        let first = pool.start()?;
        lock(&pool.state).idle.push(first);
        Ok(pool)
    }

    /// The marshalled code of `source` at optimisation level `optimize` (0, 1 or 2).
    ///
    /// `path` is what errors name; it stands in the code as `co_filename`. The bytes'
    /// encoding is what PEP 263 makes of them. Warnings are silenced.
    /// Waits while all processes are busy.
    ///
    /// # Errors
    /// [`CompileError`]; after [`CompileError::Start`] no other file will compile.
    pub fn compile(
        &self,
        path: &Path,
        source: &[u8],
        optimize: u8,
    ) -> Result<Vec<u8>, CompileError> {
        let mut worker = self.take()?;
        let answer = worker.compile(&self.interpreter, path, source, optimize, self.limit);
        let alive = matches!(answer, Ok(_) | Err(CompileError::Source { .. }));
        self.give_back(alive.then_some(worker));
        answer
    }

    /// An idle process, else a new one, else the next that becomes idle.
    fn take(&self) -> Result<Worker, CompileError> {
        let mut state = lock(&self.state);
        loop {
            if let Some(worker) = state.idle.pop() {
                return Ok(worker);
            }
            if state.unstarted > 0 {
                state.unstarted -= 1;
                drop(state);
                return self.start().inspect_err(|_| self.give_back(None));
            }
            state = self
                .free
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns a process that was taken, or its place if it died.
    fn give_back(&self, worker: Option<Worker>) {
        let mut state = lock(&self.state);
        match worker {
            Some(worker) => state.idle.push(worker),
            None => state.unstarted += 1,
        }
        self.free.notify_one();
    }

    fn start(&self) -> Result<Worker, CompileError> {
        let worker = Worker::start(&self.interpreter)?;
        let mut watched = lock(&self.watched);
        watched.retain(|running| running.strong_count() > 0);
        watched.push(Arc::downgrade(worker.running()));
        Ok(worker)
    }
}

/// Kills what is late until the sender is dropped.
fn watch(watched: Arc<Mutex<Vec<Weak<Running>>>>) -> std::io::Result<Sender<()>> {
    let (sender, receiver) = channel();
    std::thread::Builder::new()
        .name("compile watch".into())
        .spawn(move || {
            while receiver.recv_timeout(WATCH) == Err(RecvTimeoutError::Timeout) {
                let now = Instant::now();
                for running in lock(&watched).iter().filter_map(Weak::upgrade) {
                    running.kill_if_late(now);
                }
            }
        })?;
    Ok(sender)
}
