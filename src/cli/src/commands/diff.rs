//! `pybundle diff FILE ENV`: what changed since an environment was packed.

use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use anyhow::{Context, Result};
use pybundle_pack::{Changes, Differences, Versions};

use super::inspect;
use crate::{
    arguments::Diff,
    output::{self, Bar},
};

/// Status where there are differences.
const DIFFERENT: u8 = 1;
/// Status where it can't be told.
pub(crate) const TROUBLE: u8 = 2;

pub(crate) fn run(options: &Diff) -> Result<ExitCode> {
    let head = inspect::head(&options.bundle)?;
    let bar = Bar::new();
    let found = pybundle_pack::diff(&options.bundle, &head, &options.environment, &bar);
    bar.finish();
    let found = found.with_context(|| {
        let (bundle, environment) = (options.bundle.display(), options.environment.display());
        format!("cannot compare `{bundle}` with `{environment}`")
    })?;
    match print(&found, options) {
        // Who reads the first lines alone still learns from the status.
        Err(error) if !output::is_broken_pipe(&error) => return Err(error),
        _ => {}
    }
    Ok(ExitCode::from(if found.is_empty() { 0 } else { DIFFERENT }))
}

fn print(found: &Differences, options: &Diff) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    if options.json {
        serde_json::to_writer_pretty(&mut out, found)?;
        writeln!(out)?;
    } else {
        for_people(found, options.files, &mut out)?;
    }
    out.flush()?;
    Ok(())
}

fn for_people(found: &Differences, files: bool, out: &mut impl Write) -> io::Result<()> {
    if let Some(python) = &found.python {
        writeln!(out, "Python{}", versions(python))?;
    }
    for changes in &found.distributions {
        let (name, version) = (&changes.name, versions(&changes.version));
        writeln!(out, "{name}{version}: {}", counts(changes))?;
        if files {
            for (sign, path) in paths(changes) {
                writeln!(out, "{sign} {path}")?;
            }
        }
    }
    Ok(())
}

/// ` 1 -> 2`, or what else there is to say of a version, with a blank in front.
fn versions(versions: &Versions) -> String {
    match (&versions.packed, &versions.now) {
        (Some(packed), Some(now)) if packed == now => format!(" {now}"),
        (Some(packed), Some(now)) => format!(" {packed} -> {now}"),
        (None, Some(now)) => format!(" {now}, new"),
        (Some(packed), None) => format!(" {packed}, gone"),
        (None, None) => String::new(),
    }
}

/// `3 added, 410 changed`.
fn counts(changes: &Changes) -> String {
    let counts = [
        (changes.added.len(), "added"),
        (changes.removed.len(), "removed"),
        (changes.changed.len(), "changed"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    counts.join(", ")
}

/// All paths with their signs, sorted by path.
fn paths(changes: &Changes) -> Vec<(char, &str)> {
    let added = changes.added.iter().map(|path| ('+', path.as_str()));
    let removed = changes.removed.iter().map(|path| ('-', path.as_str()));
    let changed = changes.changed.iter().map(|one| ('~', one.path.as_str()));
    let mut paths: Vec<_> = added.chain(removed).chain(changed).collect();
    paths.sort_by_key(|&(_, path)| path);
    paths
}

#[cfg(test)]
mod tests {
    use pybundle_pack::{Aspect, Change};

    use super::*;

    fn shown(version: (Option<&str>, Option<&str>), files: bool) -> String {
        let found = Differences {
            distributions: vec![Changes {
                name: "numpy".to_owned(),
                version: Versions {
                    packed: version.0.map(str::to_owned),
                    now: version.1.map(str::to_owned),
                },
                added: vec!["b".to_owned()],
                removed: Vec::new(),
                changed: vec![Change {
                    path: "a".to_owned(),
                    what: vec![Aspect::Mode],
                }],
            }],
            ..Differences::default()
        };
        let mut out = Vec::new();
        for_people(&found, files, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_distribution_is_one_line() {
        for (version, line) in [
            ((Some("1"), Some("2")), "numpy 1 -> 2: 1 added, 1 changed\n"),
            ((Some("1"), Some("1")), "numpy 1: 1 added, 1 changed\n"),
            ((None, Some("1")), "numpy 1, new: 1 added, 1 changed\n"),
            ((Some("1"), None), "numpy 1, gone: 1 added, 1 changed\n"),
            ((None, None), "numpy: 1 added, 1 changed\n"),
        ] {
            assert_eq!(shown(version, false), line);
        }
        let lines = shown((None, None), true);
        assert_eq!(lines, "numpy: 1 added, 1 changed\n~ a\n+ b\n");
    }
}
