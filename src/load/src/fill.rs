//! The part of a load in which bytes move: root reads, leaders receive, all ranks decode.

use std::{
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{PosixFadviseAdvice, posix_fadvise},
    unistd::{SysconfVar, sysconf},
};

use crate::{
    Error, Image, Job, Result, Settings,
    broadcast::{Transfer, Transferred},
    decode::Decode,
    image::{
        code,
        place::{cores, panicked},
        site::{self, Site},
        state::Cold,
        stored::Stored,
    },
    nodes::{Held, Seat, Wants},
    patience::{Patience, TICK},
    plan::{Opened, Plan},
    read,
    receipt::Clock,
    store::Store,
    transport::{Group, Pace, Transport},
    way::{Source, Way, wanted},
};

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
    /// Bytes of index and manifest, if root had to read them.
    pub(crate) head_len: u64,
    /// What the transfer moved.
    pub(crate) moved: Transferred,
}

impl Filled {
    /// Keeps this rank's first error; the other ranks of the node need not wait for it.
    pub(crate) fn fail(&mut self, error: Error) {
        self.job.fail(error.is_local());
        self.failed.get_or_insert(error);
    }
}

/// A load under way, as one rank sees it.
pub(crate) struct Fill<'a, 'p> {
    settings: &'a Settings,
    /// How it talks to the others.
    pub(crate) transport: &'a mut dyn Transport,
    /// How it waits.
    pub(crate) patience: &'a mut Patience<'p>,
    /// What root has told.
    pub(crate) plan: &'a Plan,
    /// What its node does without.
    pub(crate) wants: Wants,
    /// What it has so far.
    pub(crate) filled: Filled,
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
    let leads = transport.rank(seat.group) == 0;
    // Planning has read it, unless an image of this node knew the bundle.
    let has_read = opened.as_ref().is_some_and(|opened| opened.head.is_some());
    let mut filled = Filled {
        image: None,
        job: Arc::new(Job::own()),
        fell_back: None,
        failed: None,
        attached: false,
        head_len: if has_read { plan.head_len() } else { 0 },
        moved: Transferred::default(),
    };
    let (mut held, mut wants) = (None, Wants::default());
    match seat.held {
        Some(Ok(Held {
            site,
            job,
            wants: missing,
        })) => {
            filled.attached = !missing.hot;
            filled.job = Arc::new(job);
            held = Some(site);
            wants = if leads { missing } else { wants };
        }
        Some(Err(why)) => filled.fell_back = Some(why),
        None => {}
    }
    let mut fill = Fill {
        settings,
        transport,
        patience,
        plan,
        wants,
        filled,
    };
    let moved = fill.run(opened, held, clock);
    if leads {
        fill.arrive();
    } else if moved.is_ok() {
        fill.sleep_until_arrived();
    }
    moved.map(|()| fill.filled)
}

impl Fill<'_, '_> {
    fn run(&mut self, opened: Option<Opened>, held: Option<Site>, clock: &mut Clock) -> Result<()> {
        let (way, source) = self.find_way(opened)?;
        if let Some(site) = held {
            match self.open_image(site, way.head.as_deref()) {
                Ok(image) => self.filled.image = image,
                Err(error) => self.filled.fail(error),
            }
        }
        self.move_bytes(&way, source, clock)
    }

    /// Lets the node's other ranks go on.
    fn arrive(&self) {
        self.filled.job.arrive();
        if let Some(image) = &self.filled.image {
            image.site().state().step();
        }
    }

    /// Until the leader has all bytes, the ranks that have decoded their share sleep in the image:
    /// inside MPI they would have to look again and again.
    fn sleep_until_arrived(&mut self) {
        let Some(image) = self.filled.image.clone() else {
            return;
        };
        let (job, state) = (Arc::clone(&self.filled.job), image.site().state());
        let mut seen = state.steps();
        let arrived = || {
            let goes_on = job.has_arrived() || job.failed();
            if !goes_on {
                state.sleep(seen, TICK);
                seen = state.steps();
            }
            goes_on
        };
        let what = "the leader of the node to receive the bundle";
        if let Err(error) = wait_for(what, arrived, self.patience, Some(&image)) {
            self.filled.fail(error);
        }
    }

    /// Opens the node's image: its leader writes the index first, the others wait for it. `None`
    /// if another rank of the node has failed.
    fn open_image(&mut self, site: Site, head: Option<&[u8]>) -> Result<Option<Arc<Image>>> {
        if self.wants.hot {
            let sizes = &self.plan.sizes;
            let head = head.and_then(|head| head.split_at_checked(sizes.index_len as usize));
            let Some((index, manifest)) = head else {
                // Root could not read it, which root will say.
                return Ok(None);
            };
            let prefix = site.prefix().len();
            let code_len = code::segment_len(sizes.code_len, sizes.code_modules, prefix);
            site.prepare(index, manifest, code_len)?;
        }
        let (start, what) = (Instant::now(), "the node's leader");
        loop {
            let seen = site.state().steps();
            if site.state().is_prepared() {
                break;
            }
            if self.filled.job.failed() {
                return Ok(None);
            }
            self.patience.waiting(what, start.elapsed())?;
            self.patience.check(what, start.elapsed())?;
            site.state().sleep(seen, TICK);
        }
        let image = Arc::new(Image::open(site, self.settings.timeout)?);
        image.set_job(Arc::clone(&self.filled.job));
        self.filled.job.set_image(&image);
        Ok(Some(image))
    }

    /// The transfer on this thread, decoding beside it.
    fn move_bytes(&mut self, way: &Way, source: Option<Source>, clock: &mut Clock) -> Result<()> {
        let (settings, wants) = (self.settings, self.wants);
        let image = self.filled.image.clone();
        let image = image.as_deref();
        let began = clock.now();
        // A process that is alone decodes from the bundle itself.
        let direct = self.transport.size(Group::WORLD) == 1 && !wants.cold;
        let stored = self.stored(image, source.as_ref(), direct);
        let stored = stored
            .map_err(|error| self.filled.fail(error))
            .ok()
            .flatten();
        let job = Arc::clone(&self.filled.job);
        let decode = match (image, &stored) {
            (Some(image), Some(stored)) if image.site().state().lacks_hot(direct) => {
                Some(Decode::new(image, &job, stored, !direct, cores()))
            }
            _ => None,
        };
        let decode = decode.as_ref();
        let place_all = image.filter(|_| settings.all_files && self.filled.failed.is_none());
        let moved = thread::scope(|scope| {
            let (end, ended) = mpsc::channel::<()>();
            let timeout = settings.timeout;
            let (its_job, work) = (&job, decode.is_some() || place_all.is_some());
            let working = work.then(|| {
                scope.spawn(move || {
                    let _end = end;
                    decode.map_or(Ok(()), Decode::run)?;
                    place_all.map_or(Ok(()), |image| place(image, its_job, timeout))
                })
            });
            let give_up = || {
                job.fail(false);
                if let Some(decode) = decode {
                    decode.stop();
                }
            };
            let moved = if direct || way.bytes.is_empty() {
                Ok(Transferred::default())
            } else {
                self.transfer(way, source, image)
            };
            clock.span("transfer", began);
            match &moved {
                Ok(Transferred {
                    failed: None,
                    stopped: false,
                    ..
                }) => {}
                Ok(Transferred {
                    failed: Some(error),
                    ..
                }) => {
                    job.fail(error.is_local());
                    give_up();
                }
                _ => give_up(),
            }
            if let Some(working) = working {
                // Nothing is sent: the channel closes when the thread ends.
                let done = || ended.recv_timeout(TICK) != Err(RecvTimeoutError::Timeout);
                let what = "the node's ranks to decode";
                if let Err(error) = wait_for(what, done, self.patience, image) {
                    give_up();
                    self.filled.fail(error);
                }
                let decoded = working.join().unwrap_or_else(|_| Err(panicked()));
                if let Err(error) = decoded {
                    self.filled.fail(error);
                }
            }
            moved
        });
        clock.span("decode", began);
        let mut moved = moved?;
        if let Some(error) = moved.failed.take() {
            self.filled.fail(error);
        }
        self.filled.moved = moved;
        if let Some(group) = way.group {
            self.transport.free(group);
        }
        if let (None, Some(image), true) = (&self.filled.failed, image, wants.hot || wants.cold)
            && let Err(error) = tidy(self.plan, image, direct)
        {
            self.filled.fail(error);
        }
        Ok(())
    }

    /// Where this rank decodes from while loading; `None` if it doesn't.
    fn stored(
        &self,
        image: Option<&Image>,
        source: Option<&Source>,
        direct: bool,
    ) -> Result<Option<Stored>> {
        let Some(image) = image else { return Ok(None) };
        let state = image.site().state();
        let Some((file, index)) = source.filter(|_| direct) else {
            let path = image.dir().join(site::PACKED);
            return Ok(Some(Stored::packed(site::open_file(&path)?, &path)));
        };
        let bundle = self.plan.bundle();
        let duplicate = || -> Result<Stored> {
            let file = file.file().try_clone()?;
            Ok(Stored::bundle(file, &bundle))
        };
        if let (true, Some(index)) = (self.wants.hot, index) {
            let len = i64::try_from(self.plan.sizes.load_end).unwrap_or(0);
            // Advice: what it can't do costs nothing.
            let _ = posix_fadvise(file, 0, len, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
            read::check_directory(file, index)?;
            state.set_cold(Cold::Bundle);
        }
        if state.cold() != Cold::Node {
            image.set_stored(duplicate()?);
        }
        duplicate().map(Some)
    }

    fn transfer(
        &mut self,
        way: &Way,
        source: Option<Source>,
        image: Option<&Image>,
    ) -> Result<Transferred> {
        let Some(group) = way.group else {
            return Ok(Transferred::default());
        };
        let (_, ranks) = self.filled.job.place();
        let image = image.filter(|_| self.wants.hot || self.wants.cold);
        let transfer = Transfer {
            group,
            bytes: way.bytes.clone(),
            file_len: self.plan.sizes.file_len,
            source: source.and_then(|(file, index)| Some((file, index?))),
            store: image.map(|image| Store {
                image,
                job: &self.filled.job,
                bytes: wanted(self.plan, self.wants),
                must: self.plan.sizes.load_end,
            }),
            pace: pace(ranks),
        };
        transfer.run(self.transport, self.patience)
    }
}

/// Everything into place, as soon as it is known where cold entries come from.
fn place(image: &Image, job: &Job, timeout: Option<Duration>) -> Result<()> {
    let state = image.site().state();
    let start = Instant::now();
    loop {
        let seen = state.steps();
        if state.cold() != Cold::Unknown {
            return image.place_all();
        }
        // The main thread sees the same, and says it.
        if job.failed() || timeout.is_some_and(|timeout| start.elapsed() > timeout) {
            return Ok(());
        }
        state.sleep(seen, TICK);
    }
}

/// Waits until `done`, which sleeps for about a tick, as long as the image moves on.
fn wait_for(
    what: &str,
    mut done: impl FnMut() -> bool,
    patience: &mut Patience<'_>,
    image: Option<&Image>,
) -> Result<()> {
    let (mut moved, mut steps) = (Instant::now(), None);
    while !done() {
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
        _ if direct => return Ok(()),
        Cold::Node => {}
        // The one open of this node.
        _ => drop(image.stored()?),
    }
    // Where a rank has failed they are all that others have who use this image.
    if !image.site().state().lacks_hot(false) {
        image.release(plan.sizes.cold_start);
    }
    Ok(())
}

/// How a leader waits for a chunk: inside MPI where every rank has a core, else with naps.
fn pace(local_ranks: usize) -> Pace {
    let online = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    let online = online.and_then(|count| usize::try_from(count).ok());
    let online = online.unwrap_or(1);
    if local_ranks < online && online > 2 {
        Pace::Block
    } else {
        Pace::Nap
    }
}
