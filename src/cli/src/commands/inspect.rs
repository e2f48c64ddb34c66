//! `pybundle inspect FILE`: what is in a bundle.

use std::{
    io::{self, BufWriter, Write},
    path::Path,
};

use anyhow::{Context, Result};
use pybundle_bundle::{
    Head,
    record::{self, Entry, Kind},
};
use serde_json::{Value, json};

use crate::{arguments::Inspect, output::bytes};

pub(crate) fn run(options: &Inspect) -> Result<()> {
    let head = head(&options.bundle)?;
    let mut out = BufWriter::new(io::stdout().lock());
    if options.json {
        serde_json::to_writer_pretty(&mut out, &as_json(&head)?)?;
        writeln!(out)?;
    } else {
        for_people(&head, &mut out)?;
    }
    out.flush()?;
    Ok(())
}

/// Index and manifest of a bundle.
pub(crate) fn head(bundle: &Path) -> Result<Head> {
    fs_err::File::open(bundle)
        .map_err(pybundle_bundle::Error::from)
        .and_then(|mut file| Head::read(&mut file))
        .with_context(|| format!("bundle is refused: `{}`", bundle.display()))
}

/// A distribution's share of the bundle.
struct Share {
    name: String,
    entries: u32,
    size: u64,
    stored: u64,
    eager: bool,
}

fn shares(head: &Head) -> Vec<Share> {
    let index = &head.index;
    let mut shares: Vec<Share> = (0..index.groups())
        .filter_map(|row| index.group(row))
        .map(|group| {
            let (mut size, mut stored) = (0, 0);
            for entry in index
                .group_entries(&group)
                .filter_map(|row| index.entry(row))
            {
                size += entry.size;
                stored += entry.stored;
            }
            Share {
                name: String::from_utf8_lossy(index.text(group.name)).into_owned(),
                entries: group.entries,
                size,
                stored,
                eager: group.flags & record::GROUP_EAGER != 0,
            }
        })
        .collect();
    shares.sort_by(|one, other| {
        other
            .size
            .cmp(&one.size)
            .then_with(|| one.name.cmp(&other.name))
    });
    shares
}

fn for_people(head: &Head, out: &mut impl Write) -> Result<()> {
    let (index, manifest) = (&head.index, &head.manifest);
    let header = index.header();
    let python = &manifest.python;
    let counts = &manifest.counts;
    writeln!(out, "identity   {}", head.identity)?;
    writeln!(out, "format     {} by {}", manifest.format, manifest.writer)?;
    writeln!(
        out,
        "python     {} {} ({}, {})",
        python.implementation, python.version, python.soabi, python.platform
    )?;
    writeln!(
        out,
        "glibc      {}",
        manifest.glibc.as_deref().unwrap_or("any")
    )?;
    for root in &manifest.roots {
        writeln!(
            out,
            "root       /{} from {}",
            root.folder,
            root.paths.join(", ")
        )?;
    }
    for need in &manifest.mpi {
        let library = if need.library.is_empty() {
            "any"
        } else {
            &need.library
        };
        writeln!(out, "mpi        {library} for {}", need.by.join(", "))?;
    }
    let hot: u64 = entries(head)
        .filter(|entry| index.is_hot(entry))
        .map(|entry| entry.size)
        .sum();
    writeln!(
        out,
        "size       {} ({} hot when decoded), index {}",
        bytes(header.file_len),
        bytes(hot),
        bytes(header.index_len)
    )?;
    writeln!(
        out,
        "files      {} with {}, {} links",
        counts.files,
        bytes(counts.bytes),
        counts.links
    )?;
    writeln!(
        out,
        "code       {} modules with {} in {} blocks, {} sources do not compile",
        counts.modules,
        bytes(counts.code_bytes),
        index.blocks(),
        counts.uncompiled
    )?;
    writeln!(
        out,
        "\n{:<32} {:>7} {:>10} {:>10}",
        "distribution", "files", "bytes", "stored"
    )?;
    for share in shares(head) {
        writeln!(
            out,
            "{:<32} {:>7} {:>10} {:>10}{}",
            share.name,
            share.entries,
            bytes(share.size),
            bytes(share.stored),
            if share.eager { "  placed at start" } else { "" }
        )?;
    }
    Ok(())
}

fn entries(head: &Head) -> impl Iterator<Item = Entry> + '_ {
    (0..head.index.entries()).filter_map(|row| head.index.entry(row))
}

fn as_json(head: &Head) -> Result<Value> {
    let index = &head.index;
    let kind = |entry: &Entry| match Kind::from_number(entry.kind) {
        Some(Kind::Link) => "link",
        Some(Kind::Folder) => "folder",
        Some(Kind::Code) => "code",
        Some(Kind::Manifest) => "manifest",
        Some(Kind::File) | None => "file",
    };
    let entries: Vec<Value> = entries(head)
        .map(|entry| {
            json!({
                "name": index.entry_name(&entry),
                "kind": kind(&entry),
                "mode": format!("{:o}", entry.mode & 0o777),
                "size": entry.size,
                "stored": entry.stored,
                "offset": entry.offset,
                "hot": index.is_hot(&entry),
                "group": record::some(entry.group),
                "sha256": pybundle_bundle::Identity(entry.sha256).to_string(),
            })
        })
        .collect();
    let groups: Vec<Value> = (0..index.groups())
        .filter_map(|row| index.group(row))
        .map(|group| {
            json!({
                "name": String::from_utf8_lossy(index.text(group.name)),
                "eager": group.flags & record::GROUP_EAGER != 0,
                "companions": index.companions(&group).collect::<Vec<_>>(),
            })
        })
        .collect();
    Ok(json!({
        "identity": head.identity.to_string(),
        "bytes": index.header().file_len,
        "manifest": serde_json::to_value(&head.manifest)?,
        "groups": groups,
        "entries": entries,
    }))
}
