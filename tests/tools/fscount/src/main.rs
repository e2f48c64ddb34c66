//! `fscount`: runs a program and counts its file operations, without root and without `strace`.
//!
//! Every process and thread below the program is followed with ptrace. An operation is a system
//! call that names a path (`stat`, `open`, `readlink`, `access`, …; failed ones too) or lists an
//! open folder; it is counted by process and, where asked, below given folders. A traced program
//! splits its counts into phases by `os.stat("/pybundle-mark/NAME")`. README.md has the JSON.

mod calls;
mod count;
mod names;
mod report;
mod sys;
mod trace;

use std::{ffi::OsString, fs, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Parser;

use crate::{count::Counts, report::Report};

/// Run COMMAND and count its file operations.
#[derive(Debug, Parser)]
#[command(name = "fscount", version, max_term_width = 100)]
struct Options {
    /// Write the counts as JSON to FILE instead of a table to stderr
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Count operations below this folder apart, and name their paths (may be repeated)
    #[arg(long, value_name = "FOLDER")]
    below: Vec<PathBuf>,
    /// Name the paths of all operations, not only of those below a folder
    #[arg(long)]
    paths: bool,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
    }
}

/// Traces the command; returns the status to leave with, the command's own.
fn run(options: &Options) -> anyhow::Result<u8> {
    let mut counts = Counts::new(&options.below, options.paths);
    let end = trace::run(&options.command, &mut counts)?;
    let report = Report::new(&options.command, end, &counts);
    match &options.output {
        Some(path) => fs::write(path, report.json()?)
            .with_context(|| format!("can't write `{}`", path.display()))?,
        None => eprint!("{}", report.table()),
    }
    Ok(end.status())
}
