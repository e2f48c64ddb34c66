//! `pybundle stage`: complete images, for as many starts as there are; `pybundle unstage`.
//!
//! One rank of each node goes on after the load: it adds what a Python needs that has no finder yet,
//! bytecode for those that never get one, and the line by which the packed Python finds its image.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Result, anyhow};
use nix::sys::signal::{SigSet, Signal};
use pybundle_bundle::Head;
use pybundle_load::{
    Image, Loaded, Settings,
    failure::{self, Error},
    image::{self, boot},
    join, load, package,
    transport::{Group, Transport, Wait},
};

use crate::{
    arguments::{Stage, Unstage},
    output::{self, bytes},
};

/// The program that starts the packed Python.
const PYTHON: &str = "pybundle-python";

/// Stages a bundle; called by every rank of a job, or alone.
pub(crate) fn stage(options: &Stage) -> Result<()> {
    let ends = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
    let ends = SigSet::from_iter(ends);
    if options.hold {
        // Before there are threads, which take over what is blocked.
        ends.thread_block()?;
    }
    let begun = settings(options).and_then(|settings| {
        let package = package::folder()?.folder;
        let transport = join::transport(&settings, Some(&package))?;
        Ok((settings, package, transport))
    });
    let (settings, package, mut transport) = begun.unwrap_or_else(|error| {
        failure::alone(&error);
        process::exit(1)
    });
    let transport = &mut *transport;
    let staged = load(&settings, transport, &mut || Ok(()))
        .map_err(Error::from)
        .and_then(|loaded| {
            let completed = complete(&loaded, &package);
            let what = "all nodes to complete their images";
            failure::agree(completed, what, &settings, transport)?;
            let said = gather(&loaded, &settings, transport)?;
            Ok((loaded, said))
        });
    let (loaded, said) = staged.unwrap_or_else(|error| {
        failure::end(&error, &settings, transport, false);
        process::exit(1)
    });
    let printed = said.map_or(Ok(()), |places| say(&loaded, &places, options));
    loaded.job.leave();
    // Whatever became of the output: the other ranks are on their way to the end of MPI.
    if transport.flavour().is_some() {
        transport.finalise()?;
    }
    printed?;
    if options.hold {
        // Whatever ends the step; a kill leaves the image to the next run on the node.
        ends.wait()?;
    }
    if let Some(image) = &loaded.image {
        image.leave();
    }
    Ok(())
}

/// The environment's settings with the command line's over them.
fn settings(options: &Stage) -> Result<Settings, Error> {
    let mut settings = join::settings(options.bundle.as_deref())?;
    settings.keep = !options.hold;
    settings.keep_for = options.limit;
    settings.all_files = true;
    settings.strict = true;
    Ok(settings)
}

/// On one rank of each node: all that a Python in the tree needs.
fn complete(loaded: &Loaded, package: &Path) -> Result<(), Error> {
    let image = loaded.image.as_ref();
    let image = image.ok_or_else(|| Error::refused("this node has no image of the bundle", ""))?;
    // What a node's ranks do together is done; the rest is for one of them.
    if !loaded.job.is_first() {
        return Ok(());
    }
    let python = &loaded.manifest.python;
    if python.executable.is_some() {
        image.place_interpreter()?;
    }
    image.place_all_bytecode()?;
    let folder = boot::make(image, Some(package), &python.cache_tag)?;
    if image.is_executable() {
        boot::complete(&folder, package, &package::program(PYTHON)?)?;
    }
    if python.executable.is_some() {
        boot::hook(image, &folder)?;
    }
    Ok(())
}

/// On root: the folders of the images, each with the number of nodes that have it there.
fn gather(
    loaded: &Loaded,
    settings: &Settings,
    transport: &mut dyn Transport,
) -> Result<Option<BTreeMap<PathBuf, usize>>, Error> {
    let image = loaded.image.as_ref().filter(|_| loaded.job.is_first());
    let mine = image.map_or(&[][..], |image| image.dir().as_os_str().as_bytes());
    let wait = &mut Wait::asleep("all nodes to say where their images are", settings.timeout);
    let parts = transport.gather(Group::WORLD, 0, mine, wait)?;
    Ok(parts.map(|parts| {
        let mut places = BTreeMap::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let place = PathBuf::from(std::ffi::OsStr::from_bytes(&part));
            *places.entry(place).or_insert(0) += 1;
        }
        places
    }))
}

/// Prints how to use the images, as lines for a shell.
fn say(loaded: &Loaded, places: &BTreeMap<PathBuf, usize>, options: &Stage) -> Result<()> {
    let Some(image) = &loaded.image else {
        return Ok(());
    };
    let mut out = io::stdout().lock();
    for (place, nodes) in places {
        let s = if *nodes == 1 { "" } else { "s" };
        writeln!(
            out,
            "# staged: {} ({}) on {nodes} node{s}",
            place.display(),
            bytes(image.allocated())
        )?;
    }
    if places.len() > 1 {
        writeln!(
            out,
            "# not everywhere at the same place: set PYBUNDLE_NODE_DIR"
        )?;
    }
    writeln!(out, "# {}", lasting(image, options))?;
    if !options.hold {
        writeln!(out, "# {}", reach(image))?;
    }
    if !image.is_executable() {
        writeln!(
            out,
            "# this folder is mounted noexec: use `python -m pybundle run`"
        )?;
    } else if let Some(executable) = &loaded.manifest.python.executable {
        let bin = PathBuf::from(executable);
        let tree = image.tree();
        let bin = match tree.join("bin/python") {
            link if link.exists() => tree.join("bin"),
            _ => tree.join(bin.parent().unwrap_or(&bin)),
        };
        let folders = [boot::programs(image), bin];
        let folders = folders.map(|folder| quoted(&folder.to_string_lossy()));
        writeln!(out, "export PATH={}:\"$PATH\"", folders.join(":"))?;
    } else {
        writeln!(
            out,
            "# the bundle holds no Python: use `python -m pybundle run`"
        )?;
    }
    Ok(out.flush()?)
}

/// How long the images stay, in words.
fn lasting(image: &Image, options: &Stage) -> String {
    match (options.hold, options.limit) {
        (true, _) => "until this step ends".to_owned(),
        (false, Some(limit)) => format!("for {} s", limit.as_secs()),
        (false, None) => {
            let node = image.dir().parent().unwrap_or(image.dir());
            format!(
                "until `pybundle unstage` or `pybundle clean` ({})",
                node.display()
            )
        }
    }
}

/// Who finds the images, in words.
fn reach(image: &Image) -> &'static str {
    match image.is_private() {
        Some(true) => "for the steps of this job: it has a file system of its own there",
        Some(false) => "for this job and your later ones on these nodes",
        None => "for your later jobs too, unless each has a file system of its own there",
    }
}

/// For a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Removes this node's staged images.
pub(crate) fn unstage(options: &Unstage) -> Result<()> {
    let settings = Settings::from_environment()?;
    let identity = match &options.bundle {
        Some(bundle) => {
            let head = Head::read(&mut fs_err::File::open(bundle)?);
            let head =
                head.map_err(|error| anyhow!(error).context(bundle.display().to_string()))?;
            Some(head.index.identity())
        }
        None => None,
    };
    let mut out = io::stdout().lock();
    for found in image::unstage(settings.node_dir.as_deref(), identity)? {
        let verdict = if found.held {
            "in use: its last process removes it"
        } else {
            "removed"
        };
        output::image(&mut out, &found, verdict)?;
    }
    Ok(())
}
