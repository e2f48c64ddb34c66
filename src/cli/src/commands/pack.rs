//! `pybundle pack ENV`: freeze an environment.

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, Result};
use pybundle_pack::{Phase, Progress, Request, Skipped, Summary};

use crate::{
    arguments::Pack,
    output::{Bar, bytes},
};

/// Skipped things that are named one by one; the rest is counted.
const NAMED: usize = 20;

impl Progress for Bar {
    fn update(&self, phase: Phase, done: u64, total: Option<u64>) {
        self.set(phase.name(), done, total.unwrap_or(done));
    }
}

pub(crate) fn run(options: &Pack) -> Result<()> {
    let request = Request {
        environment: options.environment.clone(),
        output: options.output.clone(),
        level: options.level,
        exclude: options.exclude.clone(),
        stdlib: !options.no_stdlib,
        check: options.check,
        cache: cache(),
        jobs: options.jobs.map(usize::from),
    };
    let bar = Bar::new();
    let summary = pybundle_pack::pack(&request, &bar);
    bar.finish();
    let summary =
        summary.with_context(|| format!("cannot pack `{}`", options.environment.display()))?;
    if options.json {
        let mut out = io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, &summary)?;
        writeln!(out)?;
    } else {
        for_people(&summary, &mut io::stderr().lock())?;
    }
    Ok(())
}

/// The user's cache folder (XDG Base Directory Specification); `None` for who has no home.
fn cache() -> Option<PathBuf> {
    let set = |name| env::var_os(name).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let home = || set("HOME").filter(|path| path.is_absolute());
    let cache = cache.or_else(|| Some(home()?.join(".cache")))?;
    Some(cache.join("pybundle/pack"))
}

fn for_people(summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    let (code, seconds) = (&summary.code, &summary.seconds);
    writeln!(
        out,
        "packed     {} files and {} links for Python {}: {} in, {} out (level {})",
        summary.files,
        summary.links,
        summary.python,
        bytes(summary.bytes_in),
        bytes(summary.bytes_out),
        summary.level
    )?;
    if summary.kept.entries > 0 {
        writeln!(
            out,
            "kept       {} files and blocks of code, {}, of the bundle that it replaces",
            summary.kept.entries,
            bytes(summary.kept.bytes)
        )?;
    }
    writeln!(
        out,
        "modules    {}: bytecode of {} kept, of {} reused, of {} compiled, {} sources do not compile; \
         {}",
        summary.modules,
        code.kept,
        code.reused,
        code.compiled,
        code.uncompiled,
        bytes(code.bytes)
    )?;
    writeln!(
        out,
        "seconds    {:.1}: scan {:.1}, libraries {:.1}, code {:.1}, files {:.1} ({} jobs)",
        seconds.total,
        seconds.scan,
        seconds.libraries,
        seconds.compile,
        seconds.write,
        summary.jobs
    )?;
    skipped(&summary.skipped, out)?;
    for warning in &summary.warnings {
        writeln!(out, "warning    {warning}")?;
    }
    writeln!(out, "identity   {}", summary.identity)?;
    writeln!(out, "bundle     {}", summary.output.display())
}

fn skipped(skipped: &[Skipped], out: &mut impl Write) -> io::Result<()> {
    for thing in skipped.iter().take(NAMED) {
        let detail = if thing.detail.is_empty() {
            String::new()
        } else {
            format!(" ({})", thing.detail)
        };
        writeln!(
            out,
            "skipped    {}: {}{detail}",
            thing.path,
            thing.reason.text()
        )?;
    }
    if skipped.len() > NAMED {
        let more = skipped.len() - NAMED;
        writeln!(out, "skipped    {more} more (all of them with `--json`)")?;
    }
    Ok(())
}
