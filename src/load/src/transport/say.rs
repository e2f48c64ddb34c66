//! Last words of a rank before it ends the job.

use std::{
    io::{self, Write},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    thread,
    time::Duration,
};

/// How long a rank stays that has said something: a launcher that is told to end the job may leave
/// unread what it or another has printed.
pub(crate) const STAY: Duration = Duration::from_secs(2);

/// Between rank 0, which ends the job when it has spoken and stayed, and the next one.
const FIRST_TURN: Duration = Duration::from_secs(3);

/// Between two other ranks that have the same to say.
const TURN: Duration = Duration::from_millis(2);

/// The longest that a rank waits for its turn.
const LAST_TURN: Duration = Duration::from_secs(10);

/// How long a rank waits before it says what all have to say: the lower ranks speak first, the
/// first one ends the job, and the others stay silent.
pub(super) fn turn(rank: u32) -> Duration {
    match rank {
        0 => Duration::ZERO,
        _ => (FIRST_TURN + TURN.saturating_mul(rank)).min(LAST_TURN),
    }
}

/// Waits for this rank's [`turn`].
pub(super) fn in_turn(rank: u32) {
    thread::sleep(turn(rank));
}

/// The right to say what several ranks have to say alike, as long as it is kept.
pub(crate) struct Right {
    /// Nobody else can have it meanwhile. Where there are no such names, everybody speaks.
    _name: Option<UnixListener>,
}

/// Gives the right to one of the ranks on this node that have the same launcher.
pub(crate) fn for_node() -> Option<Right> {
    let user = nix::unistd::geteuid();
    let launcher = std::os::unix::process::parent_id();
    // Its number means nothing outside the containers that share the numbers.
    let numbers = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let name = format!("pybundle-said-{user}-{launcher}-{}", numbers.display());
    let bound =
        SocketAddr::from_abstract_name(name).and_then(|name| UnixListener::bind_addr(&name));
    match bound {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
        bound => Some(Right { _name: bound.ok() }),
    }
}

/// Says, when it is this rank's turn, what several have to say alike. Then this rank's process, or
/// the job, may end.
pub(super) fn last(text: &str) {
    let right = for_node();
    if right.is_some() {
        line(text);
    }
    thread::sleep(STAY);
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
        assert!(turn(1) > STAY && turn(1) < turn(2));
        assert_eq!(turn(u32::MAX), LAST_TURN);
    }

    #[test]
    fn one_of_a_node_speaks() {
        let right = for_node();
        assert!(right.is_some() && for_node().is_none());
        drop(right);
        assert!(for_node().is_some());
    }
}
