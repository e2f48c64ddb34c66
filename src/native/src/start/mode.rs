//! What becomes of MPI after the load: kept for the program, or released before its first line.

use std::path::Path;

use pybundle_bundle::Manifest;
use pybundle_load::{
    Settings,
    environment::MpiMode,
    failure::Error,
    transport::{Group, Transport, Wait},
};

use super::source::Source;
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
    source: Option<&Source>,
) -> Opinion {
    let keeps = match settings.mpi {
        Some(mode) => mode != MpiMode::Release,
        None => !manifest.mpi.is_empty() || names_mpi4py(program, source),
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
            _ => Error::Refused {
                text: String::new(),
                hint: String::new(),
                speaks: false,
            },
        });
    }
    Ok(if lowest.code == Opinion::Keep as i64 {
        MpiMode::Keep
    } else {
        MpiMode::Release
    })
}

/// Whether the program's own text names mpi4py, which then comes from outside the bundle.
fn names_mpi4py(program: &Program, source: Option<&Source>) -> bool {
    const NAME: &[u8] = b"mpi4py";
    let found = |text: &[u8]| text.windows(NAME.len()).any(|window| window == NAME);
    let file = |path: &Path| std::fs::read(path).is_ok_and(|text| found(&text));
    match program {
        Program::Script(_) | Program::Stdin if source.is_some() => {
            source.is_some_and(|source| found(&source.content))
        }
        // Read by the program, not by us.
        Program::Stdin => true,
        Program::Script(path) => file(Path::new(path)),
        Program::Command(text) => found(text.as_bytes()),
        Program::Module(name) => {
            let path = name.replace('.', "/");
            found(name.as_bytes())
                || file(format!("{path}.py").as_ref())
                || file(format!("{path}/__main__.py").as_ref())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_names_mpi4py_keeps_mpi() {
        let source = |text: &str| Source {
            content: text.as_bytes().to_vec(),
        };
        let script = Program::Script("app.py".into());
        assert!(names_mpi4py(
            &script,
            Some(&source("from mpi4py import MPI"))
        ));
        assert!(!names_mpi4py(&script, Some(&source("import numpy"))));
        assert!(names_mpi4py(
            &Program::Command("import mpi4py".into()),
            None
        ));
        assert!(names_mpi4py(&Program::Module("mpi4py.bench".into()), None));
        assert!(!names_mpi4py(
            &Program::Module("no.such.module".into()),
            None
        ));
    }
}
