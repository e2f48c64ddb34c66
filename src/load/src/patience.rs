//! The terms on which this rank waits: how long, with which callback, and what it says meanwhile.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Error, Interrupted, Result,
    load::Tick,
    transport::{self, GiveUp, Pace, Wait},
};

/// After this long, one line says who waits for what: root's; and a little later that of one more
/// rank, in case root is what everybody waits for.
const NOTICE: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(20)];

/// Longest sleep between two looks at a signal.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// How this rank waits.
pub(crate) struct Patience<'a> {
    /// Longest time without progress.
    pub(crate) timeout: Option<Duration>,
    /// This rank, for messages: `rank 3/64 on node12`.
    pub(crate) who: String,
    notice: Option<Duration>,
    tick: Tick<'a>,
}

impl<'a> Patience<'a> {
    /// The terms of `rank`.
    pub(crate) fn new(rank: u32, who: String, timeout: Option<Duration>, tick: Tick<'a>) -> Self {
        Self {
            timeout,
            who,
            notice: NOTICE.get(rank as usize).copied(),
            tick,
        }
    }

    /// Makes a collective call.
    pub(crate) fn collective<R>(
        &mut self,
        what: &'static str,
        pace: Pace,
        call: impl FnOnce(&mut Wait<'_>) -> transport::Result<R>,
    ) -> Result<R> {
        let timeout = self.timeout;
        let mut tick = |waited| self.waiting(what, waited).map_err(GiveUp::from);
        let mut wait = Wait {
            what,
            timeout,
            pace,
            tick: Some(&mut tick),
        };
        call(&mut wait).map_err(|error| match error {
            transport::Error::GaveUp { reason, .. } if reason.is::<Interrupted>() => {
                Interrupted.into()
            }
            transport::Error::TimedOut { what, seconds } => Error::TimedOut {
                who: self.who.clone(),
                what: what.to_owned(),
                seconds,
            },
            error => error.into(),
        })
    }

    /// Does something beside this thread and waits for it: a file system may never answer.
    pub(crate) fn beside<R: Send + 'static>(
        &mut self,
        what: &'static str,
        work: impl FnOnce() -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let (done_in, done) = mpsc::channel();
        let thread = thread::Builder::new().name("pybundle-beside".to_owned());
        let work = move || {
            // Nobody takes the result if this wait was given up.
            let _ = done_in.send(work());
        };
        thread.spawn(work).map_err(Error::Io)?;
        let start = Instant::now();
        loop {
            match done.recv_timeout(TICK) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Internal(format!("a thread panicked: {what}")));
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.waiting(what, start.elapsed())?;
                    self.check(what, start.elapsed())?;
                }
            }
        }
    }

    /// To be called about every 100 ms of a wait; `waited` so far.
    pub(crate) fn waiting(&mut self, what: &str, waited: Duration) -> Result<(), Interrupted> {
        if self.notice.is_some_and(|notice| waited >= notice) {
            self.notice = None;
            let (who, seconds) = (&self.who, waited.as_secs());
            eprintln!("pybundle: {who} has waited {seconds} s for {what}");
        }
        (self.tick)()
    }

    /// [`Error::TimedOut`] if a wait has taken too long.
    pub(crate) fn check(&self, what: &str, waited: Duration) -> Result<()> {
        if self.timeout.is_some_and(|timeout| waited >= timeout) {
            return Err(Error::TimedOut {
                who: self.who.clone(),
                what: what.to_owned(),
                seconds: waited.as_secs_f64(),
            });
        }
        Ok(())
    }
}
