//! `slowfs`: shows folders to a program as a shared file system with one busy metadata server would.
//!
//! README.md says what a request is, and the layout of the counts.

mod server;
mod view;

use std::{
    env,
    ffi::OsString,
    io::ErrorKind,
    mem,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Parser;
use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::prctl::set_timerslack,
};
use serde_json::json;

use crate::{
    server::{Counts, Server},
    view::View,
};

/// Enough for every rank of a test to wait for the server at once.
const THREADS: usize = 32;

/// Run COMMAND, which finds FOLDER on a slow shared file system.
#[derive(Debug, Parser)]
#[command(name = "slowfs", version, max_term_width = 100)]
struct Options {
    /// Show this folder slowly, and count its requests apart (may be repeated)
    #[arg(long, value_name = "FOLDER", required = true)]
    over: Vec<PathBuf>,
    /// What the metadata server needs for one request, in microseconds
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 300)]
    service: u64,
    /// MiB a second that all clients share
    #[arg(long, value_name = "MIB")]
    rate: Option<u64>,
    /// Write the counts as JSON to FILE instead of a table to stderr
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
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

/// Shows the folders, runs the command; returns the status to leave with, the command's own.
fn run(options: &Options) -> anyhow::Result<u8> {
    let server = Arc::new(Server::new(
        Duration::from_micros(options.service),
        options.rate.map(|mib| mib << 20),
    ));
    let mut folders = Vec::new();
    for folder in &options.over {
        let path = fs_err::canonicalize(folder)?;
        if folders
            .iter()
            .any(|known: &PathBuf| path.starts_with(known) || known.starts_with(&path))
        {
            bail!(
                "`{}` lies in another folder to show, or around it",
                path.display()
            );
        }
        folders.push(path);
    }
    // Before anything is mounted: what is read below is the folders themselves.
    let views = folders
        .iter()
        .enumerate()
        .map(|(number, path)| View::new(path, number, Arc::clone(&server)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let current = env::current_dir()?;
    // A thread's namespace is that of the threads it starts, and of its children.
    unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| {
            mount(
                None::<&str>,
                "/",
                None::<&str>,
                MsFlags::MS_REC | MsFlags::MS_PRIVATE,
                None::<&str>,
            )
        })
        .context("can't make a mount namespace: this needs root")?;
    // A sleep of 300 µs takes 350 otherwise; threads inherit it, and so would the command.
    let _ = set_timerslack(1);
    let sessions = folders
        .iter()
        .zip(views)
        .map(|(path, view)| show(path, view))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let _ = set_timerslack(0);
    // What was opened before is not what is shown.
    env::set_current_dir(&current)?;

    let mut command = Command::new(&options.command[0]);
    let ended = command.args(&options.command[1..]).status();
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("`{}`: no such program", options.command[0].display())
        }
        Err(error) => {
            return Err(error).context(format!("can't start `{}`", options.command[0].display()));
        }
    };

    let counts = server.counts(folders.len());
    match &options.output {
        Some(path) => fs_err::write(path, report(&options.command, ended, &folders, &counts))?,
        None => table(&folders, &counts),
    }
    // Who has outlived the command keeps what it has open until this process and its views end.
    for path in &folders {
        umount2(path, MntFlags::MNT_DETACH).context("can't take a folder's view away")?;
    }
    mem::forget(sessions);
    Ok(ended
        .code()
        .or_else(|| ended.signal().map(|signal| 128 + signal))
        .and_then(|status| u8::try_from(status).ok())
        .unwrap_or(1))
}

/// Mounts a view over the folder it is of.
fn show(path: &Path, view: View) -> anyhow::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("slowfs".into()), MountOption::RO];
    config.acl = SessionACL::All;
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    Session::new(view, path, &config)
        .and_then(Session::spawn)
        .with_context(|| {
            format!(
                "can't mount over `{}`: this needs /dev/fuse and root",
                path.display()
            )
        })
}

/// The counts as README.md describes them.
fn report(
    command: &[OsString],
    ended: ExitStatus,
    folders: &[PathBuf],
    counts: &[Counts],
) -> String {
    let end = match ended.signal() {
        Some(signal) => json!({ "signal": signal }),
        None => json!({ "status": ended.code() }),
    };
    let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    let folders = folders.iter().zip(counts);
    let folders: Vec<_> = folders.map(|(path, counts)| counts.json(path)).collect();
    let report = json!({ "slowfs": 1, "command": words, "end": end, "folders": folders });
    format!("{report}\n")
}

fn table(folders: &[PathBuf], counts: &[Counts]) {
    eprintln!("requests  clients        bytes  folder");
    for (path, counts) in folders.iter().zip(counts) {
        let (requests, clients) = (counts.requests(), counts.clients());
        eprintln!(
            "{requests:8} {clients:8} {:12}  {}",
            counts.bytes,
            path.display()
        );
    }
}
