//! The part of a load in which bytes move: root reads, leaders receive, all ranks decode.

use std::{
    ops::Range,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{PosixFadviseAdvice, posix_fadvise},
    unistd::{SysconfVar, sysconf},
};
use pybundle_bundle::Index;

use crate::{
    Error, Image, Job, Result, Settings,
    broadcast::{Store, Transfer, Transferred},
    decode::{self, Decode},
    image::{
        code,
        place::{cores, panicked},
        site::{self, Site},
        state::Cold,
        stored::Stored,
    },
    nodes::{Held, Seat, Wants},
    patience::Patience,
    plan::{Opened, Plan},
    read,
    receipt::Clock,
    transport::{Group, Pace, Transport},
};

/// Longest sleep between two looks at a signal.
const TICK: Duration = Duration::from_millis(100);

/// What this rank has after the bytes have moved.
pub(crate) struct Filled {
    /// The node's image, complete unless something failed.
    pub(crate) image: Option<Arc<Image>>,
    /// Where this rank counts.
    pub(crate) job: Arc<Job>,
    /// Why the node has no image.
    pub(crate) fell_back: Option<String>,
    /// This rank's first error.
    pub(crate) failed: Option<Error>,
    /// The image was there before.
    pub(crate) attached: bool,
    /// What the transfer moved.
    pub(crate) moved: Transferred,
}

/// The bytes that somebody needs, and the group in which they move.
struct Way {
    group: Option<Group>,
    bytes: Range<u64>,
    head: Option<Vec<u8>>,
}

/// Moves and decodes. Collective over all ranks.
///
/// # Errors
/// The transport's alone; this rank's own are in the result.
pub(crate) fn fill(
    settings: &Settings,
    transport: &mut dyn Transport,
    patience: &mut Patience<'_>,
    plan: &Plan,
    opened: Option<Opened>,
    seat: Seat,
    clock: &mut Clock,
) -> Result<Filled> {
    let mut filled = Filled {
        image: None,
        job: Arc::new(Job::own()),
        fell_back: None,
        failed: None,
        attached: false,
        moved: Transferred::default(),
    };
    let leads = transport.rank(seat.group) == 0;
    let (mut site, mut wants) = (None, Wants::default());
    match seat.held {
        Some(Ok(held)) => {
            let Held {
                site: mine,
                job,
                wants: missing,
            } = held;
            filled.attached = mine.state().is_complete();
            (site, filled.job) = (Some(mine), Arc::new(job));
            wants = if leads { missing } else { wants };
        }
        Some(Err(why)) => filled.fell_back = Some(why),
        None => {}
    }
    let way = find_way(transport, patience, plan, opened.as_ref(), wants)?;
    if let Some(site) = site {
        match open_image(
            settings,
            patience,
            plan,
            &filled.job,
            site,
            way.head.as_deref(),
            wants,
        ) {
            Ok(image) => {
                filled.image = image.map(Arc::new);
                if let Some(image) = &filled.image {
                    image.set_job(Arc::clone(&filled.job));
                    filled.job.set_image(image);
                }
            }
            Err(error) => {
                filled.job.fail(error.is_local());
                filled.failed = Some(error);
            }
        }
    }
    move_bytes(
        settings,
        transport,
        patience,
        plan,
        opened,
        way,
        wants,
        &mut filled,
        clock,
    )?;
    Ok(filled)
}

/// Who takes part in the transfer, what moves in it, and the index for those who need it.
fn find_way(
    transport: &mut dyn Transport,
    patience: &mut Patience<'_>,
    plan: &Plan,
    opened: Option<&Opened>,
    wants: Wants,
) -> Result<Way> {
    let world = Group::WORLD;
    let rank = transport.rank(world);
    let what = "the leaders of the nodes";
    let color = (rank == 0 || wants.hot || wants.cold).then_some(0);
    let group = patience.collective(what, Pace::Sleep, |wait| {
        transport.split(world, color, rank, wait)
    })?;
    let mut way = Way {
        group,
        bytes: 0..0,
        head: None,
    };
    let Some(group) = group else { return Ok(way) };
    let sizes = &plan.sizes;
    // From the first entry, or from the first cold one; to the directory if all of it moves.
    let start = if wants.hot {
        0
    } else if wants.cold {
        sizes.load_end
    } else {
        u64::MAX >> 1
    };
    let end = if wants.cold {
        sizes.file_len
    } else if wants.hot {
        sizes.load_end
    } else {
        0
    };
    let mut lowest = |code: i64| {
        patience.collective(what, Pace::Sleep, |wait| {
            transport.lowest(group, code, wait)
        })
    };
    let start = lowest(start.cast_signed())?.code.unsigned_abs();
    let end = lowest(-end.cast_signed())?.code.unsigned_abs();
    let index_wanted = lowest(-i64::from(wants.hot))?.code != 0;
    way.bytes = start..end;
    if index_wanted {
        let len = (sizes.index_len + sizes.manifest_len) as usize;
        let mut head = opened.map_or_else(
            || vec![0; len],
            |opened| [opened.head.index.bytes(), &opened.head.manifest_bytes].concat(),
        );
        patience.collective("the index", Pace::Sleep, |wait| {
            transport.broadcast(group, 0, &mut head, wait)
        })?;
        way.head = Some(head);
    }
    Ok(way)
}

/// Opens the node's image: its leader writes the index first, the others wait for it. `None` if
/// another rank of the node has failed.
fn open_image(
    settings: &Settings,
    patience: &mut Patience<'_>,
    plan: &Plan,
    job: &Job,
    site: Site,
    head: Option<&[u8]>,
    wants: Wants,
) -> Result<Option<Image>> {
    if wants.hot {
        let sizes = &plan.sizes;
        let head = head.and_then(|head| head.split_at_checked(sizes.index_len as usize));
        let (index, manifest) =
            head.ok_or_else(|| Error::Internal("the index did not come".to_owned()))?;
        let prefix = site.prefix().len();
        let code_len = code::segment_len(sizes.code_len, sizes.code_modules, prefix);
        site.prepare(index, manifest, code_len)?;
    }
    let start = Instant::now();
    loop {
        let seen = site.state().steps();
        if site.state().is_prepared() {
            return Image::open(site, settings.timeout).map(Some);
        }
        if job.failed() {
            return Ok(None);
        }
        let what = "the node's leader";
        patience.waiting(what, start.elapsed())?;
        patience.check(what, start.elapsed())?;
        site.state().sleep(seen, TICK);
    }
}

/// The transfer on the main thread, decoding beside it.
#[expect(
    clippy::too_many_arguments,
    reason = "one step of one sequence, split for length"
)]
fn move_bytes(
    settings: &Settings,
    transport: &mut dyn Transport,
    patience: &mut Patience<'_>,
    plan: &Plan,
    opened: Option<Opened>,
    way: Way,
    wants: Wants,
    filled: &mut Filled,
    clock: &mut Clock,
) -> Result<()> {
    let image = filled.image.clone();
    let image = image.as_deref();
    let alone = transport.size(Group::WORLD) == 1;
    let mut source = opened.map(|opened| (opened.file, Arc::new(opened.head.index)));
    // A process that is alone decodes from the bundle itself.
    let direct = alone && !wants.cold;
    let prepared = prepare_stored(plan, image, &mut source, direct, wants);
    let stored = match prepared {
        Ok(stored) => stored,
        Err(error) => {
            filled.job.fail(error.is_local());
            filled.failed.get_or_insert(error);
            None
        }
    };
    let (_, ranks) = filled.job.place();
    let decode = match (image, &stored) {
        (Some(image), Some(stored)) => {
            Some(Decode::new(image, &filled.job, stored, !direct, cores()))
        }
        _ => None,
    };
    let complete = image.is_none_or(|image| image.site().state().is_complete());
    let (decode, job) = (decode.as_ref(), &*filled.job);
    let began = clock.now();
    let (decoded, moved) = thread::scope(|scope| {
        let (end, ended) = mpsc::channel::<()>();
        let work = move || -> Result<()> {
            let _end = end;
            if let (Some(decode), false) = (decode, complete) {
                decode.run()?;
            }
            match image {
                Some(image) if settings.all_files => place_all(image, job, settings.timeout),
                _ => Ok(()),
            }
        };
        let working = scope.spawn(work);
        let give_up = || {
            job.fail(false);
            if let Some(decode) = decode {
                decode.stop();
            }
        };
        let moved = match way.group {
            Some(group) if !way.bytes.is_empty() && !direct => {
                let store = image
                    .filter(|_| wants.hot || wants.cold)
                    .map(|image| Store {
                        image,
                        bytes: wanted(plan, wants),
                        must: plan.sizes.load_end,
                    });
                let transfer = Transfer {
                    group,
                    bytes: way.bytes,
                    file_len: plan.sizes.file_len,
                    source,
                    store,
                    pace: pace(ranks),
                };
                transfer.run(transport, patience)
            }
            _ => Ok(Transferred::default()),
        };
        match &moved {
            Ok(Transferred {
                failed: Some(error),
                ..
            }) => {
                job.fail(error.is_local());
                give_up();
            }
            Ok(Transferred { stopped: true, .. }) | Err(_) => give_up(),
            Ok(_) => {}
        }
        clock.span("transfer", began);
        let waited = wait_for(&ended, patience, image);
        if waited.is_err() {
            give_up();
        }
        let decoded = working.join().unwrap_or_else(|_| Err(panicked()));
        (waited.and(decoded), moved)
    });
    clock.span("decode", began);
    if let Err(error) = decoded {
        filled.job.fail(error.is_local());
        filled.failed.get_or_insert(error);
    }
    let mut moved = moved?;
    if let Some(error) = moved.failed.take() {
        filled.failed.get_or_insert(error);
    }
    filled.moved = moved;
    if let Some(group) = way.group {
        transport.free(group);
    }
    if let (None, Some(image), true) = (&filled.failed, image, wants.hot || wants.cold) {
        filled.failed = tidy(plan, image, direct).err();
    }
    Ok(())
}

/// The bytes of the bundle that a node wants.
fn wanted(plan: &Plan, wants: Wants) -> Range<u64> {
    let sizes = &plan.sizes;
    let start = if wants.hot { 0 } else { sizes.load_end };
    let end = if wants.cold {
        sizes.data_end
    } else {
        sizes.load_end
    };
    start..end
}

/// Where this rank decodes from while loading.
fn prepare_stored(
    plan: &Plan,
    image: Option<&Image>,
    source: &mut Option<(fs_err::File, Arc<Index<Vec<u8>>>)>,
    direct: bool,
    wants: Wants,
) -> Result<Option<Stored>> {
    let Some(image) = image else { return Ok(None) };
    let state = image.site().state();
    if let (true, Some((file, index))) = (direct, source) {
        let bundle = plan.bundle();
        if wants.hot {
            let len = i64::try_from(plan.sizes.load_end).unwrap_or(0);
            // Advice: what it can't do costs nothing.
            let _ = posix_fadvise(&*file, 0, len, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
            read::check_directory(file, index)?;
            state.set_cold(Cold::Bundle);
        }
        let again = file.try_clone()?.into_parts().0;
        if state.cold() != Cold::Node {
            image.set_stored(Stored::bundle(again.try_clone()?, &bundle));
        }
        return Ok(Some(Stored::bundle(again, &bundle)));
    }
    let path = image.dir().join(site::PACKED);
    Ok(Some(Stored::packed(site::open_file(&path)?, &path)))
}

/// Everything into place, as soon as it is known where cold entries come from.
fn place_all(image: &Image, job: &Job, timeout: Option<Duration>) -> Result<()> {
    let state = image.site().state();
    let start = Instant::now();
    while state.cold() == Cold::Unknown {
        let seen = state.steps();
        if job.failed() || timeout.is_some_and(|timeout| start.elapsed() > timeout) {
            return Ok(());
        }
        if state.cold() == Cold::Unknown {
            state.sleep(seen, TICK);
        }
    }
    image.place_all()
}

/// Waits asleep until the working thread ends, as long as the image moves on.
fn wait_for(
    ended: &Receiver<()>,
    patience: &mut Patience<'_>,
    image: Option<&Image>,
) -> Result<()> {
    let what = "the node's ranks to decode";
    let (mut moved, mut steps) = (Instant::now(), None);
    // Nothing is sent: the channel closes when the thread ends.
    while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        let now = image.map(|image| image.site().state().steps());
        if steps != now {
            (moved, steps) = (Instant::now(), now);
        }
        patience.waiting(what, moved.elapsed())?;
        patience.check(what, moved.elapsed())?;
    }
    Ok(())
}

/// Compressed bytes that are no longer needed; the bundle, if cold entries come from there.
fn tidy(plan: &Plan, image: &Image, direct: bool) -> Result<()> {
    match image.site().state().cold() {
        Cold::Node => decode::release(image, Some(plan.sizes.load_end)),
        _ if direct => Ok(()),
        _ => {
            // The one open of this node.
            image.stored()?;
            decode::release(image, None)
        }
    }
}

/// How a leader waits for a chunk: inside MPI where every rank has a core, else with naps.
fn pace(local_ranks: usize) -> Pace {
    let online = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    let online = online
        .and_then(|count| usize::try_from(count).ok())
        .unwrap_or(1);
    if local_ranks < online && online > 2 {
        Pace::Block
    } else {
        Pace::Nap
    }
}
