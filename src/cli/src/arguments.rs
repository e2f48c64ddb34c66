//! The command line. Exit codes: 0 ok, 1 refused or failed, 2 usage; `run` passes the program's own,
//! `diff` has those of diff: 0 no difference, 1 differences, 2 trouble.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

/// Packs a Python environment into one file, and starts Python from it at scale
#[derive(Parser)]
#[command(name = "pybundle", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Freeze an environment into a bundle
    Pack(Pack),
    /// Run a program whose modules come from a bundle
    #[command(disable_help_flag = true)]
    Run(Forwarded),
    /// Say what is in a bundle
    Inspect(Inspect),
    /// Check every byte of a bundle
    Verify(Verify),
    /// Say what changed in an environment since it was packed: status 0 nothing, 1 something, 2
    /// trouble
    Diff(Diff),
    /// Make an ordinary environment of a bundle, with bytecode
    Unpack(Unpack),
    /// Print the receipt of a run for people
    Receipt(Receipt),
    /// Remove node images that no process holds
    Clean(Clean),
    /// Put a complete image on every node, for many starts: one rank a node, under mpiexec or srun
    Stage(Stage),
    /// Remove staged images from this node
    Unstage(Unstage),
    /// Start programs from a bundle without changing the job script
    Site(Site),
    /// Add an MPI to this installation: `pybundle mpi add MPICC`
    #[command(disable_help_flag = true)]
    Mpi(Forwarded),
}

#[derive(Args)]
pub(crate) struct Pack {
    /// Environment to pack: a venv, conda prefix, Spack view or system prefix
    #[arg(value_name = "ENV")]
    pub(crate) environment: PathBuf,
    /// Bundle to write [default: ENV.pybundle beside ENV]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// zstd level: higher is smaller and slower to pack, and no slower to load
    #[arg(long, value_name = "N", default_value_t = pybundle_pack::DEFAULT_LEVEL,
          value_parser = clap::value_parser!(i32).range(1..=22))]
    pub(crate) level: i32,
    /// Leave out paths that match, relative to ENV (may be given several times)
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// Leave out the standard library and the interpreter that ENV was made from, where they lie
    /// outside ENV: each rank then reads them from the file system
    #[arg(long)]
    pub(crate) no_stdlib: bool,
    /// Compare every file with the bundle that is replaced, whatever sizes and times say (to start
    /// afresh, remove it)
    #[arg(long)]
    pub(crate) check: bool,
    /// Worker threads and interpreters [default: the cores this process may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
    /// Print the summary as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Stage {
    /// Bundle to stage [default: $PYBUNDLE]
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
    /// Keep the images for so long, as in 90m or 8h; what is past its time is removed when anything
    /// of pybundle runs on the node again
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "hold")]
    pub(crate) limit: Option<Duration>,
    /// Stay, and remove the images when this step or its job is ended
    #[arg(long)]
    pub(crate) hold: bool,
}

#[derive(Args)]
pub(crate) struct Unstage {
    /// Remove the images of this bundle only
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Inspect {
    /// Bundle to look at
    #[arg(value_name = "FILE")]
    pub(crate) bundle: PathBuf,
    /// Print manifest, distributions and entries as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Verify {
    /// Bundle to check
    #[arg(value_name = "FILE")]
    pub(crate) bundle: PathBuf,
}

#[derive(Args)]
pub(crate) struct Diff {
    /// Bundle that was packed
    #[arg(value_name = "FILE")]
    pub(crate) bundle: PathBuf,
    /// Environment that it was packed from, or a copy of that
    #[arg(value_name = "ENV")]
    pub(crate) environment: PathBuf,
    /// Print each path too, behind `+` (added), `-` (removed) or `~` (changed)
    #[arg(long, conflicts_with = "json")]
    pub(crate) files: bool,
    /// Print all differences as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Unpack {
    /// Bundle to unpack
    #[arg(value_name = "FILE")]
    pub(crate) bundle: PathBuf,
    /// Folder to make: not there yet, or empty
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

#[derive(Args)]
pub(crate) struct Receipt {
    /// Receipt that a run wrote (`--receipt FILE` or `PYBUNDLE_RECEIPT`)
    #[arg(value_name = "FILE")]
    pub(crate) receipt: PathBuf,
    /// Write a page with a timeline instead
    #[arg(long, value_name = "PAGE")]
    pub(crate) html: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Clean {
    /// Say what would be removed, remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Args)]
pub(crate) struct Site {
    #[command(subcommand)]
    pub(crate) action: SiteAction,
}

#[derive(Subcommand)]
pub(crate) enum SiteAction {
    /// Let `PYBUNDLE=FILE python app.py` of ENV start from the bundle
    Install(SiteEnvironment),
    /// Undo `install`
    Remove(SiteEnvironment),
    /// Say whether ENV has it
    Status(SiteEnvironment),
}

#[derive(Args)]
pub(crate) struct SiteEnvironment {
    /// Environment whose `python` is meant
    #[arg(value_name = "ENV")]
    pub(crate) environment: PathBuf,
}

/// Arguments that `python -m pybundle` reads itself.
#[derive(Args)]
pub(crate) struct Forwarded {
    #[arg(
        value_name = "ARG",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) arguments: Vec<OsString>,
}

/// Seconds, or a number with `s`, `m`, `h` or `d`.
fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.chars().last().filter(char::is_ascii_alphabetic);
    let number = text.trim_end_matches(|last: char| Some(last) == unit);
    let factor = match unit {
        None | Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86400,
        Some(_) => return Err("expected seconds, or a number with s, m, h or d".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "not a whole number")?;
    Ok(Duration::from_secs(number.saturating_mul(factor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in [
            ("90", 90),
            ("90s", 90),
            ("2m", 120),
            ("8h", 28800),
            ("1d", 86400),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "h", "1.5h", "2w", "-1"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
