//! What the environment says of the job that this process belongs to.
//!
//! Launchers tell their processes in environment variables how many they are. [`VARIABLES`] is
//! the one table of them. MPI is not needed to read them, and a process that none of them claims
//! never loads MPI.

use std::{fmt, path::Path};

use super::{Error, Result};

/// A family of MPI libraries with one binary interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Flavour {
    /// Open MPI and its descendants (Spectrum MPI, HPC-X).
    OpenMpi,
    /// MPICH and those that keep its binary interface (Intel MPI, Cray MPICH, MVAPICH).
    Mpich,
}

impl Flavour {
    /// The project's own name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenMpi => "Open MPI",
            Self::Mpich => "MPICH",
        }
    }

    /// Reads the name that a plug-in carries: `_mpi_NAME.so`, where NAME begins like this.
    pub fn from_plugin_name(name: &str) -> Option<Self> {
        const NAMES: [(&str, Flavour); 8] = [
            ("openmpi", Flavour::OpenMpi),
            ("ompi", Flavour::OpenMpi),
            ("spectrum", Flavour::OpenMpi),
            ("hpcx", Flavour::OpenMpi),
            ("mpich", Flavour::Mpich),
            ("intel", Flavour::Mpich),
            ("cray", Flavour::Mpich),
            ("mvapich", Flavour::Mpich),
        ];
        NAMES
            .iter()
            .find(|(prefix, _)| name.starts_with(prefix))
            .map(|&(_, flavour)| flavour)
    }

    /// The flavour of a plug-in by its file name.
    pub fn of_plugin(path: &Path) -> Option<Self> {
        Self::from_plugin_name(path.file_name()?.to_str()?.strip_prefix("_mpi_")?)
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one kind of launcher sets.
struct Variables {
    /// Number of ranks of the job.
    size: Option<&'static str>,
    /// This process's rank.
    rank: &'static str,
    /// The MPI whose launcher sets them, or that is mostly started with them.
    flavour: Option<Flavour>,
}

/// The launchers' variables, those of one MPI before those of resource managers.
const VARIABLES: [Variables; 10] = [
    Variables {
        size: Some("OMPI_COMM_WORLD_SIZE"),
        rank: "OMPI_COMM_WORLD_RANK",
        flavour: Some(Flavour::OpenMpi),
    },
    Variables {
        size: Some("MV2_COMM_WORLD_SIZE"),
        rank: "MV2_COMM_WORLD_RANK",
        flavour: Some(Flavour::Mpich),
    },
    Variables {
        size: Some("MPIRUN_NPROCS"),
        rank: "MPIRUN_RANK",
        flavour: Some(Flavour::Mpich),
    },
    // Hydra. Resource managers speak the same protocol to every MPI.
    Variables {
        size: Some("PMI_SIZE"),
        rank: "PMI_RANK",
        flavour: Some(Flavour::Mpich),
    },
    Variables {
        size: None,
        rank: "PALS_RANKID",
        flavour: Some(Flavour::Mpich),
    },
    Variables {
        size: None,
        rank: "ALPS_APP_PE",
        flavour: Some(Flavour::Mpich),
    },
    Variables {
        size: Some("JSM_NAMESPACE_SIZE"),
        rank: "JSM_NAMESPACE_RANK",
        flavour: Some(Flavour::OpenMpi),
    },
    Variables {
        size: Some("FLUX_JOB_SIZE"),
        rank: "FLUX_TASK_RANK",
        flavour: None,
    },
    // Not SLURM_NTASKS and SLURM_PROCID: a plain batch script has them too.
    Variables {
        size: Some("SLURM_STEP_NUM_TASKS"),
        rank: "SLURM_PROCID",
        flavour: None,
    },
    Variables {
        size: None,
        rank: "PMIX_RANK",
        flavour: Some(Flavour::OpenMpi),
    },
];

/// Set beside `PMI_*` by resource managers, which offer that protocol to every MPI.
const MANAGERS: [&str; 2] = ["SLURM_STEP_ID", "FLUX_JOB_ID"];

/// What one launcher has said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The variable that says it.
    pub variable: &'static str,
    /// Its value.
    pub value: String,
    /// Number of ranks, where the launcher tells it.
    pub size: Option<u32>,
    /// This process's rank, where the launcher tells it.
    pub rank: Option<u32>,
    /// The MPI whose launcher it is, or that such a launcher mostly starts.
    pub flavour: Option<Flavour>,
    /// Whether no other MPI has such a launcher.
    pub certain: bool,
}

impl Claim {
    /// Whether there must be other ranks, `None` if it does not say.
    fn several(&self) -> Option<bool> {
        match (self.size, self.rank) {
            (Some(size), _) => Some(size > 1),
            (None, Some(rank)) if rank > 0 => Some(true),
            _ => None,
        }
    }
}

/// The launchers that claim this process. More than one if one ran below another, or if a
/// resource manager started an MPI's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Launcher {
    /// At least one.
    claims: Vec<Claim>,
}

impl Launcher {
    /// Reads this process's environment. `None` if no launcher has started it, or if all that did
    /// say that it is alone: then MPI is not needed.
    pub fn detect() -> Option<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// As [`detect`](Self::detect), from `variable`.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name| variable(name).and_then(|text| text.trim().parse::<u32>().ok());
        let managed = MANAGERS.iter().any(|name| variable(name).is_some());
        let claims: Vec<_> = VARIABLES
            .iter()
            .filter_map(|known| {
                let size = known.size.and_then(|name| Some((name, number(name)?)));
                let rank = number(known.rank);
                let (said_in, said) = match (known.size, size, rank) {
                    (Some(_), size, _) => size?,
                    (None, _, rank) => (known.rank, rank?),
                };
                // Offered to every MPI by whoever manages the nodes.
                let offered = managed && said_in == "PMI_SIZE" || said_in == "PMIX_RANK";
                Some(Claim {
                    variable: said_in,
                    value: said.to_string(),
                    size: size.map(|(_, size)| size),
                    rank,
                    flavour: known.flavour,
                    certain: known.flavour.is_some() && !offered,
                })
            })
            .collect();
        let any = |answer| claims.iter().any(|claim| claim.several() == answer);
        (any(Some(true)) || any(None) && !any(Some(false))).then_some(Self { claims })
    }

    /// The claim to name in messages: the first that says that there are several ranks.
    pub fn claim(&self) -> &Claim {
        let several = self
            .claims
            .iter()
            .find(|claim| claim.several() == Some(true));
        several.unwrap_or(&self.claims[0])
    }

    /// Number of ranks, where a launcher tells it. MPI's own word counts, this is for messages.
    pub fn size(&self) -> Option<u32> {
        self.claims.iter().filter_map(|claim| claim.size).max()
    }

    /// This process's rank by the same launcher, before MPI is started.
    pub fn rank(&self) -> Option<u32> {
        self.claim().rank
    }

    /// The MPI whose own launcher has started this process, if one has.
    pub fn flavour(&self) -> Option<Flavour> {
        self.first_flavour(|claim| claim.certain)
    }

    /// The MPI that has probably been started: as [`flavour`](Self::flavour), but also by the
    /// protocol that a resource manager offers.
    pub fn likely_flavour(&self) -> Option<Flavour> {
        self.flavour().or_else(|| self.first_flavour(|_| true))
    }

    fn first_flavour(&self, counts: impl Fn(&Claim) -> bool) -> Option<Flavour> {
        let several = |claim: &&Claim| claim.several() != Some(false);
        let claims = self.claims.iter().filter(|claim| counts(claim));
        claims
            .clone()
            .filter(several)
            .chain(claims)
            .find_map(|claim| claim.flavour)
    }

    /// Refuses a world of one rank in a job of several: each process would load for itself, and
    /// the program would run several times, in silence.
    ///
    /// Other differences between MPI and the launcher are legitimate: several programs in one
    /// job, a launcher below another.
    ///
    /// # Errors
    /// [`Error::Singletons`].
    pub fn check(&self, library: &str, flavour: Flavour, size: u32) -> Result<()> {
        // The library's own launcher knows better than one that stands further out.
        let own = |claim: &&Claim| claim.certain && claim.flavour == Some(flavour);
        let own = self.claims.iter().find(own);
        if size > 1 || own.is_some_and(|claim| claim.several() == Some(false)) {
            return Ok(());
        }
        match self
            .claims
            .iter()
            .find(|claim| claim.several() == Some(true))
        {
            None => Ok(()),
            Some(claim) => Err(Error::Singletons {
                library: library.to_owned(),
                variable: claim.variable,
                value: claim.value.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The launchers behind `NAME=value NAME=value`.
    fn launcher(variables: &str) -> Option<Launcher> {
        let variables: Vec<_> = variables
            .split(' ')
            .filter_map(|word| word.split_once('='))
            .collect();
        Launcher::from_variables(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_a_launcher_there_is_no_job() {
        assert_eq!(launcher(""), None);
        assert_eq!(launcher("SLURM_NTASKS=8 SLURM_PROCID=0"), None);
        assert_eq!(launcher("PMI_SIZE=1 PMI_RANK=0"), None);
        assert_eq!(launcher("OMPI_COMM_WORLD_SIZE=1 PMIX_RANK=0"), None);
        assert_eq!(launcher("PMI_SIZE=many"), None);
    }

    #[test]
    fn each_launcher_is_recognised() {
        use Flavour::{Mpich, OpenMpi};
        let cases = [
            ("PMI_SIZE=4 PMI_RANK=3", Some(4), Some(Mpich), Some(Mpich)),
            (
                "OMPI_COMM_WORLD_SIZE=2 PMIX_RANK=1",
                Some(2),
                Some(OpenMpi),
                Some(OpenMpi),
            ),
            ("MV2_COMM_WORLD_SIZE=2", Some(2), Some(Mpich), Some(Mpich)),
            (
                "MPIRUN_NPROCS=2 MPIRUN_RANK=0",
                Some(2),
                Some(Mpich),
                Some(Mpich),
            ),
            (
                "JSM_NAMESPACE_SIZE=6",
                Some(6),
                Some(OpenMpi),
                Some(OpenMpi),
            ),
            ("PALS_RANKID=0", None, Some(Mpich), Some(Mpich)),
            ("ALPS_APP_PE=5", None, Some(Mpich), Some(Mpich)),
            (
                "SLURM_STEP_NUM_TASKS=16 SLURM_PROCID=2",
                Some(16),
                None,
                None,
            ),
            (
                "SLURM_STEP_NUM_TASKS=4 PMI_SIZE=4 SLURM_STEP_ID=0",
                Some(4),
                None,
                Some(Mpich),
            ),
            (
                "SLURM_STEP_NUM_TASKS=4 PMIX_RANK=0",
                Some(4),
                None,
                Some(OpenMpi),
            ),
            (
                "FLUX_JOB_SIZE=3 PMI_SIZE=3 FLUX_JOB_ID=f",
                Some(3),
                None,
                Some(Mpich),
            ),
        ];
        for (variables, size, certain, likely) in cases {
            let launcher = launcher(variables).unwrap();
            let got = (
                launcher.size(),
                launcher.flavour(),
                launcher.likely_flavour(),
            );
            assert_eq!(got, (size, certain, likely), "{variables}");
        }
        assert_eq!(launcher("PMI_SIZE=4 PMI_RANK=3").unwrap().rank(), Some(3));
    }

    #[test]
    fn singletons_are_an_error_that_names_variable_and_library() {
        let launcher = launcher("PMI_SIZE=4").unwrap();
        launcher.check("MPICH 5", Flavour::Mpich, 4).unwrap();
        launcher.check("MPICH 5", Flavour::Mpich, 2).unwrap();
        let error = launcher
            .check("Open MPI v5", Flavour::OpenMpi, 1)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("Open MPI v5 sees a single rank"),
            "{error}"
        );
        assert!(error.contains("`PMI_SIZE=4`"), "{error}");
    }

    #[test]
    fn a_launcher_below_another_is_legitimate() {
        // In an MPICH job of 4, one rank runs `mpiexec -n 1` of Open MPI.
        let nested = launcher("PMI_SIZE=4 OMPI_COMM_WORLD_SIZE=1").unwrap();
        nested.check("Open MPI", Flavour::OpenMpi, 1).unwrap();
        // Or the other way round: the job with several ranks is the one to join.
        assert_eq!(nested.flavour(), Some(Flavour::Mpich));
        assert_eq!(nested.claim().variable, "PMI_SIZE");
    }

    #[test]
    fn plugin_names_tell_the_flavour() {
        let of = |name: &str| Flavour::of_plugin(Path::new(name));
        assert_eq!(of("/x/_mpi_openmpi.so"), Some(Flavour::OpenMpi));
        assert_eq!(of("_mpi_mpich-5.abi3.so"), Some(Flavour::Mpich));
        assert_eq!(of("_mpi_intel.so"), Some(Flavour::Mpich));
        assert_eq!(of("_mpi_other.so"), None);
        assert_eq!(of("mpich.so"), None);
    }
}
