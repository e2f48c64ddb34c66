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
    patience::{Patience, TICK},
    plan::{Opened, Plan},
    read,
    receipt::Clock,
    transport::{Group, Pace, Transport},
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
    fn fail(&mut self, error: Error) {
        self.job.fail(error.is_local());
        self.failed.get_or_insert(error);
    }
}

/// The bytes that somebody needs, and the group in which they move.
struct Way {
    group: Option<Group>,
    bytes: Range<u64>,
    head: Option<Vec<u8>>,
}

/// Root's file, and the index it must agree with.
type Source = (fs_err::File, Option<Arc<Index<Vec<u8>>>>);

/// A load under way, as one rank sees it.
struct Fill<'a, 'p> {
    settings: &'a Settings,
    transport: &'a mut dyn Transport,
    patience: &'a mut Patience<'p>,
    plan: &'a Plan,
    wants: Wants,
    filled: Filled,
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
    let mut filled = Filled {
        image: None,
        job: Arc::new(Job::own()),
        fell_back: None,
        failed: None,
        attached: false,
        head_len: 0,
        moved: Transferred::default(),
    };
    let (mut held, mut wants) = (None, Wants::default());
    match seat.held {
        Some(Ok(Held {
            site,
            job,
            wants: missing,
        })) => {
            filled.attached = site.state().is_complete();
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
    let (way, source) = fill.find_way(opened)?;
    if let Some(site) = held {
        match fill.open_image(site, way.head.as_deref()) {
            Ok(image) => fill.filled.image = image,
            Err(error) => fill.filled.fail(error),
        }
    }
    fill.move_bytes(&way, source, clock)?;
    Ok(fill.filled)
}

impl Fill<'_, '_> {
    /// Who takes part in the transfer, what moves in it, and the index for those who need it.
    fn find_way(&mut self, opened: Option<Opened>) -> Result<(Way, Option<Source>)> {
        let what = "the leaders of the nodes";
        let (plan, wants) = (self.plan, self.wants);
        let rank = self.transport.rank(Group::WORLD);
        let color = (rank == 0 || wants.hot || wants.cold).then_some(0);
        let group = self.collective(what, |transport, wait| {
            transport.split(Group::WORLD, color, rank, wait)
        })?;
        let mut way = Way {
            group,
            bytes: 0..0,
            head: None,
        };
        let source = |opened: Option<Opened>| {
            let Opened { file, head } = opened?;
            Some((file, head.map(|head| Arc::new(head.index))))
        };
        let Some(group) = group else {
            return Ok((way, source(opened)));
        };
        let lowest = |fill: &mut Self, code: u64, sign: i64| -> Result<u64> {
            let code = code.cast_signed() * sign;
            let lowest =
                fill.collective(what, |transport, wait| transport.lowest(group, code, wait))?;
            Ok(lowest.code.unsigned_abs())
        };
        let bytes = wanted(plan, wants);
        // The directory travels too if the bytes before it do: all of the bundle is compared.
        let end = if wants.cold {
            plan.sizes.file_len
        } else {
            bytes.end
        };
        let start = lowest(self, bytes.start, 1)?;
        let end = lowest(self, end, -1)?;
        let index_wanted = lowest(self, u64::from(wants.hot), -1)? != 0;
        if start >= end {
            return Ok((way, source(opened)));
        }
        let (opened, ready) = self.read_head(opened);
        let mut ready = [u8::from(ready)];
        self.collective(what, |transport, wait| {
            transport.broadcast(group, 0, &mut ready, wait)
        })?;
        if ready == [0] {
            self.filled.job.fail(false);
            return Ok((way, None));
        }
        way.bytes = start..end;
        if index_wanted {
            let len = (plan.sizes.index_len + plan.sizes.manifest_len) as usize;
            let mut head = match opened.as_ref().and_then(|opened| opened.head.as_ref()) {
                Some(head) => [head.index.bytes(), &head.manifest_bytes].concat(),
                None => vec![0; len],
            };
            self.collective("the index", |transport, wait| {
                transport.broadcast(group, 0, &mut head, wait)
            })?;
            way.head = Some(head);
        }
        Ok((way, source(opened)))
    }

    /// Root reads index and manifest, unless it has; true if this rank can go on.
    fn read_head(&mut self, opened: Option<Opened>) -> (Option<Opened>, bool) {
        let Some(opened) = opened else {
            return (None, true);
        };
        let plan = self.plan.clone();
        let read = move || opened.read(&plan);
        match self.patience.beside("the index to be read", read) {
            Ok(opened) => {
                let sizes = &self.plan.sizes;
                self.filled.head_len = sizes.index_len + sizes.manifest_len;
                (Some(opened), true)
            }
            Err(error) => {
                self.filled.fail(error);
                (None, false)
            }
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
            (Some(image), Some(stored)) if !image.site().state().is_complete() => {
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
                if let Err(error) = wait_for(&ended, self.patience, image) {
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

    fn collective<R>(
        &mut self,
        what: &'static str,
        call: impl FnOnce(
            &mut dyn Transport,
            &mut crate::transport::Wait<'_>,
        ) -> crate::transport::Result<R>,
    ) -> Result<R> {
        let transport = &mut *self.transport;
        self.patience
            .collective(what, Pace::Sleep, |wait| call(transport, wait))
    }
}

/// The bytes of the bundle that a node wants; an empty range far behind its end if none.
fn wanted(plan: &Plan, wants: Wants) -> Range<u64> {
    let sizes = &plan.sizes;
    match (wants.hot, wants.cold) {
        (true, true) => 0..sizes.data_end,
        (true, false) => 0..sizes.load_end,
        (false, true) => sizes.cold_start..sizes.data_end,
        (false, false) => sizes.file_len..0,
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
        _ if direct => return Ok(()),
        Cold::Node => {}
        // The one open of this node.
        _ => drop(image.stored()?),
    }
    decode::release(image, plan.sizes.cold_start)
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
