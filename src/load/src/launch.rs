//! Tells one launch of processes from another.
//!
//! A rank's children inherit its launcher's variables and look like ranks to whoever reads them.
//! The rank therefore leaves the name of its launch in the environment: a process that finds it
//! there, and the same launch in the launcher's variables, is a child. A program that starts a job
//! of its own (`mpiexec` inside a rank) gives its ranks other variables.

use std::{env, fs};

/// Where a rank leaves the name of its launch for its children.
pub const VARIABLE: &str = "PYBUNDLE_LAUNCH";

/// Variables that together differ between any two launches, and between the ranks of one.
const NAMES: [&str; 13] = [
    "PMIX_NAMESPACE",
    "PMIX_RANK",
    "OMPI_COMM_WORLD_RANK",
    "PMI_RANK",
    "PMI_ID",
    "PALS_APID",
    "PALS_RANKID",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "SLURM_PROCID",
    "FLUX_JOB_ID",
    "FLUX_TASK_RANK",
    "JSM_NAMESPACE_RANK",
];

/// A launch, and the rank within it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Launch {
    /// The launcher's variables, one after the other.
    variables: String,
    /// Hydra gives the same numbers to every launch, but each rank a socket of its own: its name,
    /// empty where it is closed, as in most children.
    socket: String,
}

impl Launch {
    /// The launch that this process's environment speaks of.
    pub fn of_this_process() -> Self {
        let value = |name: &&str| env::var(name).unwrap_or_default();
        let variables: Vec<_> = NAMES.iter().map(value).collect();
        let link = env::var("PMI_FD")
            .ok()
            .map(|number| format!("/proc/self/fd/{number}"));
        let socket = link
            .and_then(|link| fs::read_link(link).ok())
            .map(|target| target.to_string_lossy().into_owned())
            .filter(|target| target.starts_with("socket:"))
            .unwrap_or_default();
        Self {
            variables: variables.join(","),
            socket,
        }
    }

    /// Whether another process's environment, as in `/proc/PID/environ`, speaks of this launch.
    pub fn is_in(&self, environment: &[u8]) -> bool {
        let value = |name: &&str| {
            environment
                .split(|&byte| byte == 0)
                .find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
                .map(|value| String::from_utf8_lossy(value).into_owned())
                .unwrap_or_default()
        };
        let variables: Vec<_> = NAMES.iter().map(value).collect();
        variables.join(",") == self.variables
    }

    /// As one word for the environment.
    pub fn to_text(&self) -> String {
        format!("{};{}", self.variables, self.socket)
    }

    /// Whether the word in the environment names this launch.
    pub fn is(&self, text: &str) -> bool {
        let Some((variables, socket)) = text.rsplit_once(';') else {
            return false;
        };
        variables == self.variables && (self.socket.is_empty() || socket == self.socket)
    }

    /// Whether a rank of this launch is among this process's ancestors.
    pub fn has_ancestor() -> bool {
        env::var(VARIABLE).is_ok_and(|text| Self::of_this_process().is(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(variables: &str, socket: &str) -> Launch {
        Launch {
            variables: variables.to_owned(),
            socket: socket.to_owned(),
        }
    }

    #[test]
    fn a_child_is_told_from_a_rank_of_another_launch() {
        let rank = launch(",,,1,,", "socket:[7]");
        let text = rank.to_text();
        assert!(rank.is(&text));
        assert!(launch(",,,1,,", "").is(&text), "a child without the socket");
        assert!(
            !launch(",,,1,,", "socket:[9]").is(&text),
            "a nested mpiexec"
        );
        assert!(!launch(",,,0,,", "").is(&text), "another rank");
        assert!(!rank.is("nonsense"));
    }
}
