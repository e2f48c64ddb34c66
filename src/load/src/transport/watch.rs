//! Watches a rank that is inside `MPI_Init`, which no deadline can interrupt.

#![expect(
    unsafe_code,
    reason = "ends a process whose main thread is stuck inside MPI"
)]

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Duration,
};

use super::{Launcher, say};

/// After this long one line says what is waited for.
const NOTICE: Duration = Duration::from_secs(15);

/// Runs beside `MPI_Init`, until the sender is dropped or the timeout passes.
pub(super) fn watch(ended: &Receiver<()>, timeout: Option<Duration>) {
    const CAUSE: &str = "some processes of this job don't start MPI (another program in the same \
        mpiexec?), or died";
    let ends = |after| !matches!(ended.recv_timeout(after), Err(RecvTimeoutError::Timeout));
    let before_notice = timeout.map_or(NOTICE, |timeout| timeout.min(NOTICE));
    if ends(before_notice) {
        return;
    }
    let rank = Launcher::detect().and_then(|launcher| launcher.rank());
    let who = rank.map_or_else(|| "a rank".to_owned(), |rank| format!("rank {rank}"));
    if timeout != Some(before_notice) {
        // The other ranks have the same to say.
        if rank.is_none_or(|rank| rank == 0) {
            let seconds = before_notice.as_secs();
            say::line(&format!(
                "pybundle: {who} has waited {seconds} s in MPI_Init: {CAUSE}"
            ));
        }
        let rest = timeout.map(|timeout| timeout.saturating_sub(before_notice));
        match rest {
            None => return,
            Some(rest) if ends(rest) => return,
            Some(_) => {}
        }
    }
    if ends(say::turn(rank.unwrap_or(0))) {
        return;
    }
    let seconds = timeout.unwrap_or_default().as_secs_f64();
    say::last(&format!(
        "error: {who} waited {seconds:.0} s in MPI_Init: {CAUSE}; launch the other program on its \
         own, or set `PYBUNDLE_MPI=off`"
    ));
    // SAFETY: ends the process at once; the main thread is stuck inside MPI.
    unsafe { libc::_exit(1) }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_watch_ends_with_what_it_watches() {
        let (started, ended) = mpsc::channel();
        drop(started);
        watch(&ended, None);
        watch(&ended, Some(Duration::ZERO));
    }
}
