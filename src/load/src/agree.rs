//! All ranks succeed or all fail, with one message.

use crate::{
    Error, Result,
    patience::Patience,
    transport::{Group, Pace, Transport},
};

/// A rank that has nothing to report.
const FINE: i64 = i64::MAX;

/// Longest message that travels.
const TEXT: usize = 16 << 10;

/// Ends a phase: every rank gives its first error, if it has one; all ranks return the error of the
/// lowest rank that has one, refusals before interruptions.
///
/// # Errors
/// [`Error::Agreed`]; the transport's own if the ranks could not talk.
pub(crate) fn agree(
    transport: &mut dyn Transport,
    patience: &mut Patience<'_>,
    what: &'static str,
    mine: Option<&Error>,
) -> Result<()> {
    let code = match mine {
        None => FINE,
        Some(error) if error.interrupted() => 2,
        Some(_) => 1,
    };
    let world = Group::WORLD;
    let lowest = patience.collective(what, Pace::Sleep, |wait| {
        transport.lowest(world, code, wait)
    })?;
    if lowest.code == FINE {
        return Ok(());
    }
    let (rank, size) = (transport.rank(world), transport.size(world));
    let speaks = rank == lowest.rank;
    let mut text = match mine {
        Some(error) if speaks && rank > 0 => format!("[{}] {error}", patience.who),
        Some(error) if speaks => error.to_string(),
        _ => String::new(),
    };
    crate::error::shorten(&mut text, TEXT);
    let mut len = (text.len() as u64).to_le_bytes();
    let what = "the failing rank's message";
    patience.collective(what, Pace::Sleep, |wait| {
        transport.broadcast(world, lowest.rank, &mut len, wait)
    })?;
    let mut bytes = text.into_bytes();
    bytes.resize(
        usize::try_from(u64::from_le_bytes(len))
            .unwrap_or(0)
            .min(TEXT),
        0,
    );
    patience.collective(what, Pace::Sleep, |wait| {
        transport.broadcast(world, lowest.rank, &mut bytes, wait)
    })?;
    Err(Error::Agreed {
        text: String::from_utf8_lossy(&bytes).into_owned(),
        rank: lowest.rank,
        size,
        speaks,
        interrupted: lowest.code == 2,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Interrupted, transport::Local};

    #[test]
    fn the_first_error_is_what_all_return() {
        let mut tick = || Ok(());
        let mut patience = Patience::new(0, "rank 0/1 on here".to_owned(), None, &mut tick);
        let mut local = Local::new();
        agree(&mut local, &mut patience, "all", None).unwrap();
        let mine = Error::Internal("x".to_owned());
        let error = agree(&mut local, &mut patience, "all", Some(&mine)).unwrap_err();
        assert_eq!(error.to_string(), "internal error: x");
        assert!(error.speaks() && !error.must_abort() && !error.interrupted());
        let error = agree(&mut local, &mut patience, "all", Some(&Interrupted.into())).unwrap_err();
        assert!(error.interrupted());
    }
}
