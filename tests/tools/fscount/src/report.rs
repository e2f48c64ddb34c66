//! The counts as JSON, and as a table for people.

use std::{ffi::OsString, fmt::Write as _};

use serde::Serialize;

use crate::count::{Counts, End, Operations, Phase, Process};

/// What is written; README.md describes it.
#[derive(Debug, Serialize)]
pub(crate) struct Report<'a> {
    /// The version of this layout.
    fscount: u32,
    command: Vec<String>,
    end: End,
    below: Vec<String>,
    processes: &'a [Process],
}

impl<'a> Report<'a> {
    /// The report of a command that has ended.
    pub(crate) fn new(command: &[OsString], end: End, counts: &'a Counts) -> Self {
        Self {
            fscount: 1,
            command: command
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
            end,
            below: counts
                .folders()
                .map(|path| path.display().to_string())
                .collect(),
            processes: &counts.processes,
        }
    }

    /// The JSON, with a line end.
    ///
    /// # Errors
    /// None that can happen: all keys are strings.
    pub(crate) fn json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// A line for each phase of each process.
    pub(crate) fn table(&self) -> String {
        let mut text = String::from("    pid    calls  operations   failed");
        for number in 1..=self.below.len() {
            let _ = write!(text, "  below {number}");
        }
        text.push_str("  command\n");
        for process in self.processes {
            for phase in &process.phases {
                line(&mut text, process, phase);
            }
        }
        for (number, folder) in self.below.iter().enumerate() {
            let _ = writeln!(text, "below {}: {folder}", number + 1);
        }
        text
    }
}

fn line(text: &mut String, process: &Process, phase: &Phase) {
    let calls: u64 = phase.calls.values().sum();
    let Operations { total, failed, .. } = phase.operations;
    let _ = write!(text, "{:7} {calls:8} {total:11} {failed:8}", process.pid);
    for operations in &phase.below {
        let _ = write!(text, " {:8}", operations.total);
    }
    let command = process.command.join(" ").replace(char::is_control, " ");
    let short: String = command.chars().take(60).collect();
    let mark = if phase.name.is_empty() { "" } else { ": " };
    let _ = writeln!(text, "  {}{mark}{short}", phase.name);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::Kind;
    use std::path::{Path, PathBuf};

    #[test]
    fn the_report_says_what_was_counted() {
        let mut counts = Counts::new(&[PathBuf::from("/env")], false);
        let process = counts.start(7, 1, vec!["python".into(), "a\nb".into()], "");
        counts.call(process, libc::SYS_openat);
        counts.operation(process, Kind::Open, Path::new("/env/a"), false);
        let report = Report::new(&[OsString::from("python")], End::Status(3), &counts);
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(json["end"]["status"], 3);
        let phase = &json["processes"][0]["phases"][0];
        assert_eq!(phase["calls"]["openat"], 1);
        assert_eq!(phase["below"][0]["kinds"]["open"], 1);
        assert_eq!(phase["opened"]["/env/a"], 1);
        assert!(report.table().contains("python a b"));
    }
}
