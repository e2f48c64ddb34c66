//! One process that compiles, and the conversation with it.

use std::{
    io::{BufReader, Read, Write},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout},
    sync::Arc,
    time::{Duration, Instant},
};

use super::child::{self, Drain, Running};

/// What the process runs.
const SCRIPT: &str = include_str!("worker.py");

/// What the process says when it is ready.
const READY: &[u8; 4] = b"pyb\n";

/// Why a source has no bytecode.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The interpreter can't be run or doesn't run our script: no file will compile.
    #[error("interpreter doesn't start: `{}`: {reason}", interpreter.display())]
    Start {
        /// The interpreter.
        interpreter: PathBuf,
        /// The system's message, or how the process ended.
        reason: String,
    },
    /// The interpreter refuses the source.
    #[error("source doesn't compile: `{}`: {message}", path.display())]
    Source {
        /// The source file.
        path: PathBuf,
        /// The exception's type and text.
        message: String,
    },
    /// The interpreter died of this file.
    #[error("interpreter died while compiling `{}`: {ending}", path.display())]
    Died {
        /// The source file.
        path: PathBuf,
        /// How the process ended.
        ending: String,
    },
    /// Compiling takes longer than it may.
    #[error("compiling takes more than {} seconds: `{}`", limit.as_secs(), path.display())]
    Late {
        /// The source file.
        path: PathBuf,
        /// The time that it had.
        limit: Duration,
    },
}

/// A process that waits for sources.
pub(super) struct Worker {
    /// Shared with the pool's watch.
    running: Arc<Running>,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    stderr: Drain,
    /// It hasn't said that it is ready.
    fresh: bool,
}

/// Why a conversation ended without an answer.
enum Broken {
    /// The process isn't there any more, or says what it shouldn't.
    Gone,
    /// It answered with an error.
    Refused(String),
}

impl From<std::io::Error> for Broken {
    fn from(_: std::io::Error) -> Self {
        Self::Gone
    }
}

impl Worker {
    /// Starts the process, without waiting for it to be ready.
    pub(super) fn start(interpreter: &Path) -> Result<Self, CompileError> {
        let mut command = child::isolated(interpreter, &["-S", "-W", "ignore"], SCRIPT);
        let started = child::start(&mut command).map_err(|error| CompileError::Start {
            interpreter: interpreter.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            running: Arc::new(started.running),
            stdin: started.stdin,
            stdout: BufReader::with_capacity(1 << 16, started.stdout),
            stderr: started.stderr,
            fresh: true,
        })
    }

    /// The process, for who watches its time.
    pub(super) fn running(&self) -> &Arc<Running> {
        &self.running
    }

    /// Compiles one source. After an error other than [`CompileError::Source`] the process is gone.
    pub(super) fn compile(
        &mut self,
        interpreter: &Path,
        path: &Path,
        source: &[u8],
        optimize: u8,
        limit: Duration,
    ) -> Result<Vec<u8>, CompileError> {
        self.running.set_deadline(Instant::now().checked_add(limit));
        let started = self.greet();
        let answer = started.and_then(|()| self.ask(path, source, optimize));
        self.running.set_deadline(None);
        let path = path.to_owned();
        match answer {
            Ok(code) => Ok(code),
            Err(Broken::Refused(message)) => Err(CompileError::Source { path, message }),
            Err(Broken::Gone) => {
                self.running.kill();
                let ending = child::ending(&self.running, &self.stderr);
                Err(if self.running.was_late() {
                    CompileError::Late { path, limit }
                } else if self.fresh {
                    CompileError::Start {
                        interpreter: interpreter.to_owned(),
                        reason: ending,
                    }
                } else {
                    CompileError::Died { path, ending }
                })
            }
        }
    }

    fn greet(&mut self) -> Result<(), Broken> {
        if self.fresh {
            let mut ready = [0; READY.len()];
            self.stdout.read_exact(&mut ready)?;
            if ready != *READY {
                return Err(Broken::Gone);
            }
            self.fresh = false;
        }
        Ok(())
    }

    fn ask(&mut self, path: &Path, source: &[u8], optimize: u8) -> Result<Vec<u8>, Broken> {
        let path = path.as_os_str().as_bytes();
        let Ok(length) = u32::try_from(source.len()) else {
            return Err(Broken::Refused("longer than 4 GiB".into()));
        };
        let mut head = Vec::with_capacity(9 + path.len());
        head.push(optimize);
        head.extend_from_slice(&(path.len() as u32).to_le_bytes());
        head.extend_from_slice(&length.to_le_bytes());
        head.extend_from_slice(path);
        self.stdin.write_all(&head)?;
        self.stdin.write_all(source)?;
        let mut head = [0; 5];
        self.stdout.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let length = u32::from_le_bytes(length) as usize;
        let mut reply = Vec::new();
        if self
            .stdout
            .by_ref()
            .take(length as u64)
            .read_to_end(&mut reply)?
            != length
        {
            return Err(Broken::Gone);
        }
        match kind {
            b'C' => Ok(reply),
            b'E' => Err(Broken::Refused(
                String::from_utf8_lossy(&reply).into_owned(),
            )),
            _ => Err(Broken::Gone),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It has nothing to finish.
        self.running.kill();
        let _reaped = self.running.wait();
    }
}
