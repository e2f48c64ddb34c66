//! A start that failed: who says so, what it says, and how MPI ends.

use std::{io::Write, thread, time::Duration};

use crate::{
    Settings,
    folder::node_name,
    join,
    transport::{
        self, Group, Transport, Wait,
        hydra::Hydra,
        say::{self, STAY},
    },
};

/// Longest time that a rank which can't go on waits for MPI's end; the others have the same error.
const END: Duration = Duration::from_secs(10);

/// Why a start failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Loading failed.
    #[error(transparent)]
    Load(#[from] crate::Error),
    /// The ranks could not talk, or there is no way to.
    #[error(transparent)]
    Transport(#[from] transport::Error),
    /// A folder could not be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// No bundle is named.
    #[error("no bundle is named")]
    NoBundle,
    /// The bundle does not fit this interpreter, or the job's MPI.
    #[error("{text}")]
    Refused {
        /// What does not fit.
        text: String,
        /// What to do.
        hint: String,
        /// This rank is the one that prints.
        speaks: bool,
    },
}

impl Error {
    /// A refusal with its cure, printed by this rank.
    pub fn refused(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused {
            text: text.into(),
            hint: hint.into(),
            speaks: true,
        }
    }

    /// A refusal that another rank prints.
    pub fn of_another_rank() -> Self {
        Self::Refused {
            text: String::new(),
            hint: String::new(),
            speaks: false,
        }
    }
}

/// Ends a step that each rank does for itself: all ranks give `mine`, or all fail and the lowest
/// that has failed says why. `what` is what the others wait for.
///
/// # Errors
/// This rank's own error, [`Error::of_another_rank`], or the transport's.
pub fn agree<T>(
    mine: Result<T, Error>,
    what: &'static str,
    settings: &Settings,
    transport: &mut dyn Transport,
) -> Result<T, Error> {
    let wait = &mut Wait::asleep(what, settings.timeout);
    let lowest = transport.lowest(Group::WORLD, mine.is_ok().into(), wait)?;
    if lowest.code != 0 {
        return mine;
    }
    let speaks = lowest.rank == transport.rank(Group::WORLD);
    Err(mine
        .err()
        .filter(|_| speaks)
        .unwrap_or_else(Error::of_another_rank))
}

/// What every rank of a job would say alike: rank 0 does. The others leave it the time to, for a
/// launcher may end the job when the first rank has left; not all do. Where rank 0 runs another
/// program of the same job, the first of this one's says it.
pub fn once(say: impl FnOnce()) {
    let (rank, _) = place();
    if rank == 0 {
        return say();
    }
    thread::sleep(STAY);
    if let Some(first) = first_of_program() {
        if rank == first {
            say();
        }
    } else if let Some(hydra) = Hydra::find()
        && let Some(program) = hydra.program()
    {
        if program == 0 {
            return hydra.take_leave();
        }
        // Which rank is the program's first, Hydra doesn't tell.
        let turn = say::for_node();
        if turn.is_some() {
            say();
        }
        // The others may wait for this rank, and Hydra does not go by its status.
        thread::sleep(STAY);
        hydra.abort(1);
    }
}

/// The first rank of this rank's program where that is not rank 0's, as far as the launcher tells.
fn first_of_program() -> Option<u32> {
    // Open MPI's: the number of ranks of each program.
    let counts = std::env::var("OMPI_APP_CTX_NUM_PROCS").ok()?;
    let (rank, mut first) = (place().0, 0);
    for count in counts.split_ascii_whitespace() {
        let next = count.parse::<u32>().ok()?.checked_add(first)?;
        if rank < next {
            return (first > 0).then_some(first);
        }
        first = next;
    }
    None
}

/// The rank of this process and their number, as far as the launcher has told.
fn place() -> (u32, u32) {
    let launcher = join::launcher();
    let told = launcher.map(|launcher| (launcher.rank(), launcher.size()));
    let (rank, size) = told.unwrap_or_default();
    (rank.unwrap_or(0), size.unwrap_or(1))
}

/// The end of a start before the ranks could talk: each one says what it knows, except that of
/// several in a job that fail alike the first is enough.
pub fn alone(error: &Error) {
    // All ranks of a job start from the same files, the same command line and variables: what rank 0
    // lacks, the others lack too.
    let alike = matches!(
        error,
        Error::NoBundle
            | Error::Load(crate::Error::Setting { .. })
            | Error::Transport(
                transport::Error::NoPlugin { .. }
                    | transport::Error::Singletons { .. }
                    | transport::Error::Open { .. }
                    | transport::Error::NotPlugin { .. }
                    | transport::Error::Version { .. }
                    | transport::Error::TwoLibraries { .. }
            )
    );
    let (rank, size) = place();
    let say = || print(error, None, rank, size);
    if alike {
        once(say);
    } else {
        say();
    }
    // MPI, where it runs in this process, is ended like any other program's.
    let _ = transport::plugin::finalise_now();
}

/// The end of a start that the ranks know of, or must be told of; `quiet` if this rank has said
/// already what happened.
pub fn end(error: &Error, settings: &Settings, transport: &mut dyn Transport, quiet: bool) {
    let (speaks, aborts, rank, size) = match error {
        Error::Load(error) => {
            let (rank, size) = match error {
                crate::Error::Agreed { rank, size, .. } => (*rank, *size),
                _ => (transport.rank(Group::WORLD), transport.size(Group::WORLD)),
            };
            (error.speaks() && !quiet, error.must_abort(), rank, size)
        }
        Error::Refused { speaks, .. } => (
            *speaks,
            false,
            transport.rank(Group::WORLD),
            transport.size(Group::WORLD),
        ),
        _ => (
            true,
            true,
            transport.rank(Group::WORLD),
            transport.size(Group::WORLD),
        ),
    };
    // Those who wait in vain for others all know the same, and can't agree who says it.
    let alike = matches!(
        error,
        Error::Transport(transport::Error::NotJoined { .. })
            | Error::Load(crate::Error::Transport(transport::Error::NotJoined { .. }))
    );
    let turn = alike.then(say::for_node);
    if speaks && turn.as_ref().is_none_or(Option::is_some) {
        print(error, Some(settings), rank, size);
    }
    if transport.flavour().is_some() && transport.initialised_here() {
        if aborts {
            thread::sleep(STAY);
            transport.abort(1);
        }
        // All ranks are here: what was printed reaches the launcher before the first one leaves.
        let wait = &mut Wait::asleep("the other ranks to end", Some(END));
        if transport.barrier(Group::WORLD, wait).is_err() || transport.finalise().is_err() {
            transport.abort(1);
        }
    }
}

/// Writes `error: …` and, where there is a cure, `hint: …`.
fn print(error: &Error, settings: Option<&Settings>, rank: u32, size: u32) {
    let text = error.to_string();
    let (text, hint) = match hint(error, settings) {
        Some(hint) => (text.as_str(), Some(hint)),
        // The transport's messages carry their cure behind a semicolon.
        None if is_transports(error) => match text.split_once("; ") {
            Some((text, hint)) => (text, Some(hint.to_owned())),
            None => (text.as_str(), None),
        },
        None => (text.as_str(), None),
    };
    let prefix = if rank == 0 {
        String::new()
    } else {
        format!("[rank {rank}/{size} {}] ", node_name())
    };
    let hint = hint.map_or_else(String::new, |hint| format!("hint: {hint}\n"));
    // In one piece, so that the lines of several ranks don't mix.
    let message = format!("error: {prefix}{text}\n{hint}");
    let _ = std::io::stderr().lock().write_all(message.as_bytes());
}

fn is_transports(error: &Error) -> bool {
    matches!(
        error,
        Error::Transport(_) | Error::Load(crate::Error::Transport(_))
    )
}

fn hint(error: &Error, settings: Option<&Settings>) -> Option<String> {
    match error {
        Error::Refused { hint, .. } => Some(hint.clone()),
        Error::NoBundle => Some("name it with `--bundle FILE` or `PYBUNDLE`".to_owned()),
        Error::Load(error) => {
            let missing = error.to_string();
            let bundle = &settings?.bundle;
            let absent =
                missing.contains("No such file") && missing.contains(&*bundle.to_string_lossy());
            absent.then(|| {
                "name the bundle with `--bundle FILE` or `PYBUNDLE`, or make it with \
                 `pybundle pack ENV`"
                    .to_owned()
            })
        }
        _ => None,
    }
}
