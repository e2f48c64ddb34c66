//! What was counted: processes, their phases, operations by kind and by path.

use std::{
    collections::BTreeMap,
    ffi::c_long,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{calls::Kind, sys::Pid};

/// A path that starts with this isn't looked up but names the phase that begins.
const MARK: &str = "/pybundle-mark/";

/// Everything counted so far.
#[derive(Debug)]
pub(crate) struct Counts {
    /// One entry for each program that a process ran, in order of their start.
    pub(crate) processes: Vec<Process>,
    /// The folders counted apart, as given and (where that differs) with links resolved.
    below: Vec<(PathBuf, PathBuf)>,
    /// Whether all paths are named, not only those below a folder.
    all_paths: bool,
}

/// One program run by one process: after `execve` a new entry begins.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) pid: Pid,
    /// The number of the process that made it; 0 for the first.
    pub(crate) parent: Pid,
    /// Its arguments; those of its parent until it runs a program of its own.
    pub(crate) command: Vec<String>,
    /// How it ended; absent if it became another program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) end: Option<End>,
    /// Its counts from each mark to the next, in order; the first phase has no name.
    pub(crate) phases: Vec<Phase>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum End {
    /// It returned this status.
    Status(i32),
    /// This signal ended it.
    Signal(i32),
}

impl End {
    /// What a shell would call it.
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Status(status) => status.to_le_bytes()[0],
            Self::Signal(signal) => signal.to_le_bytes()[0] | 128,
        }
    }
}

/// The counts between two marks.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Phase {
    /// The mark's name.
    pub(crate) name: String,
    /// All system calls by name, those with a path included.
    #[serde(serialize_with = "by_name")]
    pub(crate) calls: BTreeMap<c_long, u64>,
    /// All operations.
    pub(crate) operations: Operations,
    /// Those below each folder.
    pub(crate) below: Vec<Operations>,
    /// How often each path was opened with success.
    pub(crate) opened: BTreeMap<String, u64>,
    /// How often each path was named by any operation: those below a folder, or all.
    pub(crate) paths: BTreeMap<String, u64>,
}

/// Operations by kind, and how many of them failed.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Operations {
    /// How many.
    pub(crate) total: u64,
    /// How many of them the kernel refused, absent files above all.
    pub(crate) failed: u64,
    /// How many of each kind.
    pub(crate) kinds: BTreeMap<Kind, u64>,
}

impl Operations {
    fn add(&mut self, kind: Kind, failed: bool) {
        self.total += 1;
        self.failed += u64::from(failed);
        *self.kinds.entry(kind).or_default() += 1;
    }
}

impl Counts {
    /// Counts that keep operations below the given folders apart.
    pub(crate) fn new(below: &[PathBuf], all_paths: bool) -> Self {
        let folder = |path: &PathBuf| {
            let full = normal(&std::env::current_dir().unwrap_or_default(), path);
            let real = full.canonicalize().unwrap_or_else(|_| full.clone());
            (full, real)
        };
        Self {
            processes: Vec::new(),
            below: below.iter().map(folder).collect(),
            all_paths,
        }
    }

    /// The folders counted apart, as they were given.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.below.iter().map(|(full, _)| full.as_path())
    }

    /// Begins a process or program; returns its place in `processes`.
    pub(crate) fn start(
        &mut self,
        pid: Pid,
        parent: Pid,
        command: Vec<String>,
        phase: &str,
    ) -> usize {
        self.processes.push(Process {
            pid,
            parent,
            command,
            end: None,
            phases: Vec::new(),
        });
        let index = self.processes.len() - 1;
        self.begin(index, phase);
        index
    }

    /// Counts a system call.
    pub(crate) fn call(&mut self, process: usize, number: c_long) {
        if let Some(phase) = self.phase(process) {
            *phase.calls.entry(number).or_default() += 1;
        }
    }

    /// Counts an operation on an absolute path.
    pub(crate) fn operation(&mut self, process: usize, kind: Kind, path: &Path, failed: bool) {
        let text = path.to_string_lossy();
        if let Some(name) = text.strip_prefix(MARK) {
            self.begin(process, name);
            return;
        }
        let inside: Vec<bool> = self
            .below
            .iter()
            .map(|(full, real)| path.starts_with(full) || path.starts_with(real))
            .collect();
        let named = self.all_paths || inside.contains(&true);
        let Some(phase) = self.phase(process) else {
            return;
        };
        phase.operations.add(kind, failed);
        for (operations, _) in phase
            .below
            .iter_mut()
            .zip(inside)
            .filter(|(_, inside)| *inside)
        {
            operations.add(kind, failed);
        }
        if kind == Kind::Open && !failed {
            *phase.opened.entry(text.to_string()).or_default() += 1;
        }
        if named {
            *phase.paths.entry(text.into_owned()).or_default() += 1;
        }
    }

    /// The phase that a process is in; what it forks begins in the same one.
    pub(crate) fn phase_name(&self, process: usize) -> String {
        let phase = self
            .processes
            .get(process)
            .and_then(|found| found.phases.last());
        phase.map(|phase| phase.name.clone()).unwrap_or_default()
    }

    fn phase(&mut self, process: usize) -> Option<&mut Phase> {
        self.processes.get_mut(process)?.phases.last_mut()
    }

    fn begin(&mut self, process: usize, name: &str) {
        let phase = Phase {
            name: name.to_owned(),
            below: vec![Operations::default(); self.below.len()],
            ..Phase::default()
        };
        if let Some(found) = self.processes.get_mut(process) {
            found.phases.push(phase);
        }
    }
}

/// `path` below `folder` without `.`, `..` and double slashes; links aren't followed.
pub(crate) fn normal(folder: &Path, path: &Path) -> PathBuf {
    let mut result = PathBuf::from("/");
    for part in folder.join(path).components() {
        match part {
            std::path::Component::Normal(name) => result.push(name),
            std::path::Component::ParentDir => {
                result.pop();
            }
            _ => {}
        }
    }
    result
}

fn by_name<S: serde::Serializer>(
    calls: &BTreeMap<c_long, u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let named: BTreeMap<_, _> = calls
        .iter()
        .map(|(&number, count)| (crate::names::name(number), count))
        .collect();
    named.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_absolute_without_following_links() {
        let path = |path: &str| normal(Path::new("/a/b"), Path::new(path));
        assert_eq!(path("c"), Path::new("/a/b/c"));
        assert_eq!(path("../c/./d"), Path::new("/a/c/d"));
        assert_eq!(path("/x//y/"), Path::new("/x/y"));
        assert_eq!(path("../../.."), Path::new("/"));
    }

    #[test]
    fn a_mark_begins_a_phase_and_is_not_counted() {
        let mut counts = Counts::new(&[PathBuf::from("/env")], false);
        let process = counts.start(1, 0, vec![], "");
        counts.operation(process, Kind::Stat, Path::new("/env/a"), true);
        counts.operation(
            process,
            Kind::Stat,
            Path::new("/pybundle-mark/imports"),
            true,
        );
        counts.operation(process, Kind::Open, Path::new("/env/b"), false);
        counts.operation(process, Kind::Open, Path::new("/environment"), false);
        let phases = &counts.processes[process].phases;
        assert_eq!(phases.len(), 2);
        assert_eq!(
            (phases[0].below[0].total, phases[0].below[0].failed),
            (1, 1)
        );
        assert_eq!(phases[1].name, "imports");
        assert_eq!(
            (phases[1].operations.total, phases[1].below[0].total),
            (2, 1)
        );
        assert_eq!(phases[1].paths.len(), 1);
        assert_eq!(phases[1].opened.len(), 2);
    }
}
