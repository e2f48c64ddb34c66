//! What becomes of MPI after the load: kept for the program, or released before its first line.

use std::path::Path;

use pybundle_bundle::Manifest;
use pybundle_load::{
    Settings,
    environment::MpiMode,
    failure::Error,
    transport::{Group, Transport, Wait},
};

use super::source::{Shared, mentions_mpi4py};
use crate::run::Program;

/// The ranks' opinions, the one that wins first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Opinion {
    /// The bundle does not fit.
    Refuse = 0,
    /// MPI stays.
    Keep = 1,
    /// Nobody needs it.
    Release = 2,
}

/// What this rank would do.
pub(super) fn opinion(
    settings: &Settings,
    manifest: &Manifest,
    program: &Program,
    shared: &Shared,
) -> Opinion {
    let keeps = match settings.mpi {
        Some(mode) => mode != MpiMode::Release,
        None => !manifest.mpi.is_empty() || names_mpi4py(program, shared),
    };
    if keeps {
        Opinion::Keep
    } else {
        Opinion::Release
    }
}

/// Settles the mode; the same on all ranks, which may run different programs.
///
/// # Errors
/// [`Error::Refused`] on all ranks, if the bundle does not fit one of them.
pub(super) fn agree(
    settings: &Settings,
    refusal: Option<Error>,
    opinion: Opinion,
    transport: &mut dyn Transport,
) -> Result<MpiMode, Error> {
    let opinion = if refusal.is_some() {
        Opinion::Refuse
    } else {
        opinion
    };
    let wait = &mut Wait::asleep("all ranks to agree on the MPI mode", settings.timeout);
    let lowest = transport.lowest(Group::WORLD, opinion as i64, wait)?;
    if lowest.code == Opinion::Refuse as i64 {
        let here = lowest.rank == transport.rank(Group::WORLD);
        return Err(match refusal {
            Some(refusal) if here => refusal,
            _ => Error::of_another_rank(),
        });
    }
    Ok(if lowest.code == Opinion::Keep as i64 {
        MpiMode::Keep
    } else {
        MpiMode::Release
    })
}

/// Whether the program names mpi4py, which then comes from outside the bundle.
fn names_mpi4py(program: &Program, shared: &Shared) -> bool {
    let file = |path: &Path| std::fs::read(path).is_ok_and(|text| mentions_mpi4py(&text));
    if let Some(names) = shared.names_mpi4py {
        return names;
    }
    match (program, &shared.source) {
        (_, Some(source)) => mentions_mpi4py(&source.content),
        // Read by the program, not by us.
        (Program::Stdin, None) => true,
        (Program::Script(path), None) => file(Path::new(path)),
        (Program::Command(text), None) => mentions_mpi4py(text.as_bytes()),
        (Program::Module(name), None) => {
            let path = name.replace('.', "/");
            mentions_mpi4py(name.as_bytes())
                || file(format!("{path}.py").as_ref())
                || file(format!("{path}/__main__.py").as_ref())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start::Source;

    #[test]
    fn a_program_that_names_mpi4py_keeps_mpi() {
        let shared = |text: Option<&str>, names_mpi4py| Shared {
            source: text.map(|text| Source {
                content: text.into(),
                ..Source::default()
            }),
            names_mpi4py,
            ..Shared::default()
        };
        let unknown = shared(None, None);
        let script = Program::Script("app.py".into());
        let mentions = shared(Some("from mpi4py import MPI"), None);
        assert!(names_mpi4py(&script, &mentions));
        assert!(!names_mpi4py(&script, &shared(Some("import numpy"), None)));
        // One of its modules does.
        assert!(names_mpi4py(
            &script,
            &shared(Some("import helper"), Some(true))
        ));
        assert!(names_mpi4py(
            &Program::Command("import mpi4py".into()),
            &unknown
        ));
        assert!(names_mpi4py(
            &Program::Module("mpi4py.bench".into()),
            &unknown
        ));
        assert!(!names_mpi4py(
            &Program::Module("no.such.module".into()),
            &unknown
        ));
    }
}
