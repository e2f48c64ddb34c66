//! The sequence of collective calls of a load, in one function.
//!
//! What follows the plan is a function of the plan alone. A rank that fails keeps its first error
//! and goes on taking part; only a transport that fails ends the sequence early, and then nothing
//! is left to be waited for.

use std::{
    io::{self, Write as _},
    sync::Arc,
};

use pybundle_bundle::Manifest;

use crate::{
    Error, Image, Interrupted, Job, Result, Settings,
    agree::agree,
    fill::{Filled, fill},
    folder::{self, node_name},
    nodes,
    patience::Patience,
    plan::{Opened, Plan},
    receipt::{self, Clock},
    stale::{self, Question},
    transport::{Group, Pace, Transport},
};

/// Called about every 100 ms while the load waits, so that signals get through.
pub type Tick<'a> = &'a mut dyn FnMut() -> Result<(), Interrupted>;

/// Longest plan that is believed: a manifest and some numbers.
const PLAN: u64 = 256 << 20;

/// What a load gives to each rank.
#[derive(Debug)]
pub struct Loaded {
    /// The node's image; `None` exactly if the node fell back.
    pub image: Option<Arc<Image>>,
    /// The bundle's manifest.
    pub manifest: Manifest,
    /// Where this rank counts.
    pub job: Arc<Job>,
    /// Why this node runs from the environment's own files.
    pub fell_back: Option<String>,
}

/// Loads a bundle; called by every rank of the job. Every rank gets `Ok`, or every rank gets an
/// error with the same text.
///
/// # Errors
/// See [`Error::speaks`] for who prints, [`Error::must_abort`] for what else to do.
pub fn load(settings: &Settings, transport: &mut dyn Transport, tick: Tick<'_>) -> Result<Loaded> {
    let world = Group::WORLD;
    let (rank, size) = (transport.rank(world), transport.size(world));
    let who = format!("rank {rank}/{size} on {}", node_name());
    let patience = &mut Patience::new(rank, who, settings.timeout, tick);
    let clock = &mut Clock::start(settings.log && rank == 0);
    let mut first: Option<Error> = None;

    let what = "all ranks to join";
    patience.collective(what, Pace::Sleep, |wait| transport.join(wait))?;
    let shared = patience.collective(what, Pace::Sleep, |wait| {
        transport.split_shared(world, wait)
    })?;
    clock.end("join");

    let (plan, opened) = share_plan(settings, transport, patience, &mut first)?;
    agree(
        transport,
        patience,
        "all ranks to read the plan",
        first.as_ref(),
    )?;
    let plan = plan.ok_or_else(|| Error::Internal("no plan and no error".to_owned()))?;
    // Root alone has opened the bundle; who has read it asks.
    let read = opened.as_ref().filter(|opened| opened.head.is_some());
    let question = read.and_then(|opened| Question::ask(&plan.manifest, &opened.file));
    clock.end("plan");

    let seat = nodes::seat(transport, patience, shared, &plan, settings, &mut first)?;
    agree(
        transport,
        patience,
        "all nodes to make room",
        first.as_ref(),
    )?;
    clock.end("attach");

    let group = seat.group;
    let mut filled = fill(settings, transport, patience, &plan, opened, seat, clock)?;
    settle(settings, transport, patience, &plan, group, &mut filled)?;
    agree(
        transport,
        patience,
        "all ranks to finish loading",
        filled.failed.as_ref(),
    )?;
    clock.end("agree");

    let changed = question.and_then(Question::answer);
    if let Some(environment) = &changed {
        // Who can't be told can't be helped.
        let _ = io::stderr().write_all(stale::line(environment).as_bytes());
    }
    receipt::report(transport, patience, &plan, group, &filled, changed, clock)?;
    transport.free(group);
    if shared != group {
        transport.free(shared);
    }
    let Filled {
        image,
        job,
        fell_back,
        ..
    } = filled;
    let manifest = plan.manifest;
    Ok(Loaded {
        image,
        manifest,
        job,
        fell_back,
    })
}

/// Root's plan, on all ranks; the open bundle, on root.
fn share_plan(
    settings: &Settings,
    transport: &mut dyn Transport,
    patience: &mut Patience<'_>,
    first: &mut Option<Error>,
) -> Result<(Option<Plan>, Option<Opened>)> {
    let world = Group::WORLD;
    let (mut plan, mut opened, mut bytes) = (None, None, Vec::new());
    if transport.rank(world) == 0 {
        match open(settings, patience) {
            Ok((made, from, file)) => (bytes, plan, opened) = (made, Some(from), Some(file)),
            Err(error) => *first = Some(error),
        }
    }
    let mut len = (bytes.len() as u64).to_le_bytes();
    patience.collective("root's plan", Pace::Sleep, |wait| {
        transport.broadcast(world, 0, &mut len, wait)
    })?;
    let len = u64::from_le_bytes(len);
    if len == 0 || len > PLAN {
        return Ok((plan, opened));
    }
    bytes.resize(len as usize, 0);
    patience.collective("root's plan", Pace::Sleep, |wait| {
        transport.broadcast(world, 0, &mut bytes, wait)
    })?;
    if plan.is_none() {
        match Plan::from_bytes(&bytes) {
            Ok(read) => plan = Some(read),
            Err(error) => *first = Some(error),
        }
    }
    Ok((plan, opened))
}

/// Opens the bundle on root.
fn open(settings: &Settings, patience: &mut Patience<'_>) -> Result<(Vec<u8>, Plan, Opened)> {
    let (bundle, receipt) = (settings.bundle.clone(), settings.receipt.clone());
    let folders = folder::of(settings);
    patience.beside("the bundle to be opened", move || {
        let (plan, opened) = Plan::open(&bundle, receipt.as_deref(), &folders)?;
        Ok((plan.to_bytes()?, plan, opened))
    })
}

/// The ranks of a node settle whether it falls back: if one of them found no room, all do.
fn settle(
    settings: &Settings,
    transport: &mut dyn Transport,
    patience: &mut Patience<'_>,
    plan: &Plan,
    group: Group,
    filled: &mut Filled,
) -> Result<()> {
    let no_room = filled.failed.as_ref().is_some_and(Error::is_local);
    let falls = no_room && !settings.strict && plan.original().is_some();
    let lowest = patience.collective("the ranks of the node", Pace::Sleep, |wait| {
        transport.lowest(group, i64::from(!falls), wait)
    })?;
    if lowest.code == 0 {
        let why = filled
            .failed
            .take_if(|_| no_room)
            .map(|error| error.to_string());
        let why = why.unwrap_or_else(|| "another rank of this node found no room".to_owned());
        filled.image = None;
        filled.job = Arc::new(Job::own());
        filled.fell_back = Some(why);
    }
    Ok(())
}

#[cfg(test)]
mod jobs;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod threads;
