//! Last words of a rank before it ends the job.

use std::{
    io::{self, Write},
    thread,
    time::Duration,
};

/// Between two ranks that have the same to say.
const TURN: Duration = Duration::from_millis(2);

/// The longest that a rank waits for its turn.
const LAST_TURN: Duration = Duration::from_secs(10);

/// How long a rank waits before it says what all have to say: the lower ranks speak first, the
/// first one ends the job, and the others stay silent.
pub(super) fn turn(rank: u32) -> Duration {
    TURN.saturating_mul(rank).min(LAST_TURN)
}

/// Waits for this rank's [`turn`].
pub(super) fn in_turn(rank: u32) {
    thread::sleep(turn(rank));
}

/// Writes a line to stderr at once, since other ranks write to the same terminal.
pub(super) fn line(text: &str) {
    // Where stderr is closed nobody listens.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_ranks_speak_first_and_none_waits_for_ever() {
        assert_eq!(turn(0), Duration::ZERO);
        assert!(turn(1) < turn(2));
        assert_eq!(turn(u32::MAX), LAST_TURN);
    }
}
