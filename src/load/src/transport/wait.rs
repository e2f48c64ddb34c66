//! How long, how patiently, and for what a rank waits.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{Error, Result};

/// Time between two calls of [`Wait::tick`].
const TICK: Duration = Duration::from_millis(100);

/// Nap of [`Pace::Nap`]: longer ones cost bandwidth, shorter ones take the core from its neighbours.
const NAP: Duration = Duration::from_micros(50);

/// First and longest nap of [`Pace::Sleep`].
const SLEEP: (Duration, Duration) = (Duration::from_micros(20), Duration::from_millis(1));

/// Why a [`Tick`] ends a wait.
pub type GiveUp = Box<dyn std::error::Error + Send + Sync>;

/// Called about every 100 ms of a wait with the time waited so far; an error ends the wait.
pub type Tick<'a> = &'a mut dyn FnMut(Duration) -> std::result::Result<(), GiveUp>;

/// What a waiting rank does with its core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// Waits inside the library where it has a blocking call (a broadcast), else like `Nap`.
    Block,
    /// Polls every 50 µs: for data under way where ranks outnumber cores.
    Nap,
    /// Polls after 20 µs, then ever more seldom, down to every millisecond: for another rank's work.
    Sleep,
}

/// The terms of a wait.
pub struct Wait<'a> {
    /// What is waited for, for messages: `root's plan`, `all ranks to join`.
    pub what: &'static str,
    /// Longest wait, `None` for ever.
    pub timeout: Option<Duration>,
    /// What the rank does meanwhile.
    pub pace: Pace,
    /// Called now and then; may end the wait.
    pub tick: Option<Tick<'a>>,
}

impl<'a> Wait<'a> {
    /// Waits asleep for `what`, at most for `timeout`.
    pub fn asleep(what: &'static str, timeout: Option<Duration>) -> Self {
        Self {
            what,
            timeout,
            pace: Pace::Sleep,
            tick: None,
        }
    }

    /// The same wait at another pace.
    #[must_use]
    pub fn pace(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// The same wait with a callback.
    #[must_use]
    pub fn tick(self, tick: Tick<'a>) -> Self {
        Self {
            tick: Some(tick),
            ..self
        }
    }

    /// Calls `test` until it answers true, with naps as [`Self::pace`] says.
    ///
    /// # Errors
    /// `test`'s own; [`Error::TimedOut`] after [`Self::timeout`]; [`Error::GaveUp`] from
    /// [`Self::tick`].
    pub fn until(&mut self, mut test: impl FnMut() -> Result<bool>) -> Result<()> {
        if test()? {
            return Ok(());
        }
        let start = Instant::now();
        let mut next_tick = TICK;
        let (mut nap, longest) = match self.pace {
            Pace::Block | Pace::Nap => (NAP, NAP),
            Pace::Sleep => SLEEP,
        };
        loop {
            thread::sleep(nap);
            nap = (nap * 2).min(longest);
            if test()? {
                return Ok(());
            }
            let waited = start.elapsed();
            if self.timeout.is_some_and(|timeout| waited >= timeout) {
                return Err(Error::TimedOut {
                    what: self.what,
                    seconds: waited.as_secs_f64(),
                });
            }
            if waited >= next_tick {
                next_tick = waited + TICK;
                if let Some(tick) = &mut self.tick {
                    tick(waited).map_err(|reason| Error::GaveUp {
                        what: self.what,
                        reason,
                    })?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_the_test_says_so() {
        let mut left = 5;
        let mut wait = Wait::asleep("a countdown", None);
        wait.until(|| {
            left -= 1;
            Ok(left == 0)
        })
        .unwrap();
        assert_eq!(left, 0);
    }

    #[test]
    fn a_wait_times_out_and_says_for_what() {
        let timeout = Some(Duration::from_millis(20));
        for pace in [Pace::Nap, Pace::Sleep] {
            let mut wait = Wait::asleep("nothing", timeout).pace(pace);
            let error = wait.until(|| Ok(false)).unwrap_err();
            assert!(
                error.to_string().ends_with("waiting for nothing"),
                "{error}"
            );
            assert!(matches!(error, Error::TimedOut { seconds, .. } if seconds >= 0.02));
        }
    }

    #[test]
    fn a_tick_ends_a_wait_without_a_deadline() {
        let mut ticks = 0;
        let mut tick = |_| {
            ticks += 1;
            if ticks == 2 {
                Err(GiveUp::from("interrupted"))
            } else {
                Ok(())
            }
        };
        let error = Wait::asleep("a signal", None)
            .tick(&mut tick)
            .until(|| Ok(false))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "gave up waiting for a signal: interrupted"
        );
        assert_eq!(ticks, 2);
    }
}
