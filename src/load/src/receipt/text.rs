//! A receipt as a table for people.

use std::fmt::Write;

use super::{PHASES, RankLoad, Receipt};

/// Paths shown of those that fell through.
const PATHS: usize = 20;

/// Ranks shown one by one; beyond that the extremes say enough.
const RANKS: usize = 16;

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// One line for each thing that happened, as name and value.
pub(super) fn rows(receipt: &Receipt) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    let bundle = &receipt.bundle;
    row(
        "bundle",
        format!("{} ({})", bundle.path, size(bundle.bytes)),
    );
    row("identity", bundle.identity.clone());
    if let Some(environment) = &receipt.environment_changed {
        let environment = environment.display();
        row(
            "environment",
            format!("has changed since it was packed: {environment}"),
        );
    }
    let nodes = receipt.nodes.len();
    row(
        "ranks",
        format!(
            "{} on {nodes} node{}",
            receipt.ranks,
            if nodes == 1 { "" } else { "s" }
        ),
    );
    row("MPI", format!("{} ({})", receipt.mpi, receipt.thread_level));
    if let Some(facts) = &receipt.facts {
        row("program", facts.program.join(" "));
        row("Python", facts.python.clone());
        row("mode", facts.mode.clone());
        if !facts.standard_library.is_empty() {
            row("standard library", facts.standard_library.clone());
        }
        for (name, value) in &facts.redirected {
            row("redirected", format!("{name}={value}"));
        }
    }
    row("read by root", size(receipt.bytes_read));
    row("broadcast", size(receipt.bytes_broadcast));
    let total = |name| receipt.total(name);
    row(
        "decoded",
        format!(
            "{} in {} entries while loading, {} in {} on demand",
            size(total("load_bytes")),
            total("load_entries"),
            size(total("demand_bytes")),
            total("demand_entries")
        ),
    );
    if let Some((most, all)) = largest_share(receipt) {
        let share = 100.0 * most.bytes as f64 / all as f64;
        let (rank, node, bytes) = (most.rank, &most.node, size(most.bytes));
        row(
            "largest share",
            format!("rank {rank} on {node}: {bytes} ({share:.0} % of its node's)"),
        );
    }
    row(
        "from memory",
        format!("{} modules", total("modules_from_memory")),
    );
    let facts = receipt.facts.as_ref();
    if let Some(sent) = facts.and_then(|facts| facts.program_files.as_ref()) {
        row(
            "its modules",
            format!(
                "{} ({}) sent by root, names of {} folders; imported {} times",
                sent.files,
                size(sent.bytes),
                sent.folders,
                total("program_modules")
            ),
        );
        if sent.left_out > 0 {
            row(
                "left to ranks",
                format!("{} files or folders", sent.left_out),
            );
        }
        for left in sent.left_out_named.iter().take(PATHS) {
            row("", format!("{}: {}", left.path, left.why));
        }
    }
    row("extensions", total("extensions").to_string());
    row("files placed", total("files_placed").to_string());
    let fell = total("fall_through");
    row(
        "fell through",
        if fell == 0 {
            "nothing".to_owned()
        } else {
            format!("{fell} look-ups")
        },
    );
    let ranks = receipt.nodes.iter().flat_map(|node| &node.ranks);
    let paths: std::collections::BTreeSet<_> = ranks.flat_map(|rank| &rank.fell_through).collect();
    for path in paths.iter().take(PATHS) {
        row("", (*path).clone());
    }
    if paths.len() > PATHS {
        row("", format!("and {} more", paths.len() - PATHS));
    }
    rows
}

/// The rank that decoded the largest share of what its node did, and what its node did.
fn largest_share(receipt: &Receipt) -> Option<(&RankLoad, u64)> {
    let of_node = |node: &super::Node| {
        let on_it = |rank: &&RankLoad| node.ranks.iter().any(|counts| counts.rank == rank.rank);
        let ranks: Vec<_> = receipt.load.iter().filter(on_it).collect();
        let all: u64 = ranks.iter().map(|rank| rank.bytes).sum();
        let most = ranks.into_iter().max_by_key(|rank| rank.bytes)?;
        (all > 0).then_some((most, all))
    };
    let shares = receipt.nodes.iter().filter_map(of_node);
    shares.max_by(|(one, of_one), (other, of_other)| {
        (one.bytes * of_other).cmp(&(other.bytes * of_one))
    })
}

/// The whole table.
pub(super) fn render(receipt: &Receipt) -> String {
    let mut out = String::new();
    for (name, value) in rows(receipt) {
        line(&mut out, format_args!("{name:<14} {value}"));
    }
    line(&mut out, format_args!(""));
    line(
        &mut out,
        format_args!(
            "{:<10} {:>9} {:>9} {:>9}  slowest",
            "seconds", "min", "median", "max"
        ),
    );
    for (phase, spread) in PHASES
        .iter()
        .filter_map(|&phase| Some((phase, receipt.phases.get(phase)?)))
    {
        let (min, median, max) = (spread.min, spread.median, spread.max);
        line(
            &mut out,
            format_args!(
                "{phase:<10} {min:>9.3} {median:>9.3} {max:>9.3}  {}",
                spread.slowest
            ),
        );
    }
    line(&mut out, format_args!(""));
    line(
        &mut out,
        format_args!(
            "{:<20} {:>6} {:>10} {:>10} {:>8}  image",
            "node", "ranks", "received", "size", "unplaced"
        ),
    );
    for node in &receipt.nodes {
        let image = match (&node.image, &node.fell_back) {
            (Some(image), _) => {
                let had = if node.attached { ", was there" } else { "" };
                let end = if node.ended {
                    ""
                } else {
                    ", at the end of the load"
                };
                let noexec = if node.noexec {
                    ", noexec: extension modules from each process's memory"
                } else {
                    ""
                };
                format!("{}{had}{noexec}{end}", image.display())
            }
            (None, Some(why)) => format!("fell back to the environment: {why}"),
            (None, None) => "none".to_owned(),
        };
        let (received, allocated) = (size(node.received), size(node.allocated));
        line(
            &mut out,
            format_args!(
                "{:<20} {:>6} {received:>10} {allocated:>10} {:>8}  {image}",
                node.name,
                node.ranks.len(),
                node.not_placed
            ),
        );
    }
    if (2..=RANKS).contains(&receipt.load.len()) {
        line(&mut out, format_args!(""));
        line(
            &mut out,
            format_args!(
                "{:>6} {:>10} {:>8}  decoded while loading",
                "rank", "bytes", "entries"
            ),
        );
        for rank in &receipt.load {
            line(
                &mut out,
                format_args!(
                    "{:>6} {:>10} {:>8}  {}",
                    rank.rank,
                    size(rank.bytes),
                    rank.entries,
                    rank.node
                ),
            );
        }
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string can't fail.
    let _ = writeln!(out, "{text}");
}
