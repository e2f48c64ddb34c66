//! This rank's share of decoding what must be in place before imports begin.
//!
//! Every batch has an owner, given out in file order to whoever has the least so far: as bytes
//! arrive, all have work, and nobody does much more than the others. Who has done its own helps the
//! others, up to one and a half times a fair share; that bound falls when nothing has moved for a
//! while, for then the owner may be dead.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use pybundle_bundle::record::Kind;

use crate::{
    Job, Result,
    image::{
        Image,
        place::panicked,
        stored::Stored,
        work::{self, Batch, Claimed, Done, Place, Worker},
    },
    plan::is_early,
};

/// Longest sleep while others are at work: a dead owner's claim is found free after it.
const NAP: Duration = Duration::from_millis(20);

/// With no movement for so long, nobody's share is too large.
const STALL: Duration = Duration::from_secs(1);

/// A share of less than this is not worth a thread.
const THREAD_BYTES: u64 = 1 << 20;

/// The decoding of a load, as one rank takes part in it.
pub(crate) struct Decode<'a> {
    image: &'a Image,
    job: &'a Job,
    stored: &'a Stored,
    /// Bytes come while it goes on: wait for them. Else they lie in the bundle, and code is left to
    /// who needs it.
    arriving: bool,
    batches: Vec<Batch>,
    /// The worker that each batch belongs to.
    owners: Vec<usize>,
    /// Threads of each rank.
    threads: usize,
    /// Bytes that this rank may take while all others are alive.
    most: u64,
    taken: AtomicU64,
    stop: AtomicBool,
}

impl<'a> Decode<'a> {
    /// Plans the work, the same on all ranks of the node.
    pub(crate) fn new(
        image: &'a Image,
        job: &'a Job,
        stored: &'a Stored,
        arriving: bool,
        cores: usize,
    ) -> Self {
        let index = image.index();
        let early = |row: &u32| {
            let entry = index.entry(*row).filter(|entry| is_early(index, entry));
            entry.is_some_and(|entry| arriving || entry.kind != Kind::Code as u8)
        };
        let batches = work::batches(index, (1..index.entries()).filter(early));
        let bytes: u64 = batches.iter().map(|batch| batch.bytes).sum();
        let (_, ranks) = job.place();
        let threads = (cores / ranks).clamp(1, (bytes / THREAD_BYTES).clamp(1, 32) as usize);
        let mut loads = vec![0; ranks * threads];
        let mut owner = |batch: &Batch| {
            let least = (0..loads.len())
                .min_by_key(|&worker| loads[worker])
                .unwrap_or(0);
            loads[least] += batch.bytes.max(1);
            least
        };
        let owners = batches.iter().map(&mut owner).collect();
        let most = if ranks == 1 {
            u64::MAX
        } else {
            bytes * 3 / (2 * ranks as u64)
        };
        Self {
            image,
            job,
            stored,
            arriving,
            batches,
            owners,
            threads,
            most,
            taken: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }

    /// The caller gives up.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.image.site().state().step();
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire) || self.job.failed()
    }

    /// Decodes until everything is in place, by whomever; or until a rank of the node fails or
    /// [`Self::stop`] is called, which is no error here.
    ///
    /// # Errors
    /// The first of this rank's own; the other ranks of the node are told.
    pub(crate) fn run(&self) -> Result<()> {
        let first = self.job.place().0 * self.threads;
        let mut result = thread::scope(|scope| {
            let helpers: Vec<_> = (1..self.threads)
                .map(|thread| scope.spawn(move || self.work(first + thread)))
                .collect();
            let mut result = self.work(first);
            for helper in helpers {
                result = result.and(helper.join().unwrap_or_else(|_| Err(panicked())));
            }
            result
        });
        let state = self.image.site().state();
        if result.is_ok() && !self.stopped() {
            let groups = 0..self.image.index().groups();
            for group in groups.filter(|&group| self.is_done(group)) {
                state.set_group(group);
            }
            // Before the image is complete: who finds it so must know. Another job may have decoded
            // all code meanwhile.
            state.set_sparse(!self.arriving && !self.image.has_hot_code());
            state.set_complete();
        }
        if let Err(error) = &mut result {
            self.job.fail(error.is_local());
            state.step();
        }
        result
    }

    /// Is every entry of the group that is not on request only in place, and every companion's?
    fn is_done(&self, group: u32) -> bool {
        let (index, state) = (self.image.index(), self.image.site().state());
        let Some(group) = index.group(group) else {
            return false;
        };
        let placed = |row: u32| {
            let lazy = |entry: pybundle_bundle::record::Entry| {
                entry.flags & pybundle_bundle::record::ENTRY_LAZY != 0
            };
            state.entry(row) || index.entry(row).is_some_and(lazy)
        };
        group.companions == 0 && index.group_entries(&group).all(placed)
    }

    fn work(&self, me: usize) -> Result<()> {
        let mut worker = self.image.worker()?;
        let place = self.image.place_with(self.stored);
        let result = self
            .own(&mut worker, &place, me)
            .and_then(|()| self.help(&mut worker, &place));
        let (count, done) = (self.job.count(), std::mem::take(&mut worker.done));
        let Done {
            entries,
            bytes,
            files,
            read,
        } = done;
        count.load_entries.fetch_add(entries, Ordering::Relaxed);
        count.load_bytes.fetch_add(bytes, Ordering::Relaxed);
        count.files_placed.fetch_add(files, Ordering::Relaxed);
        count.bytes_read.fetch_add(read, Ordering::Relaxed);
        if result.is_err() {
            self.stop();
        }
        result
    }

    /// The batches that belong to this worker, in the order in which they arrive.
    fn own(&self, worker: &mut Worker, place: &Place<'_>, me: usize) -> Result<()> {
        let state = self.image.site().state();
        for (batch, _) in self
            .batches
            .iter()
            .zip(&self.owners)
            .filter(|&(_, &owner)| owner == me)
        {
            loop {
                let seen = state.steps();
                if self.stopped() {
                    return Ok(());
                }
                if self.has_arrived(batch) {
                    break;
                }
                state.sleep(seen, NAP);
            }
            self.take(worker, place, batch)?;
        }
        Ok(())
    }

    fn has_arrived(&self, batch: &Batch) -> bool {
        !self.arriving || self.image.site().state().received() >= batch.end
    }

    fn take(&self, worker: &mut Worker, place: &Place<'_>, batch: &Batch) -> Result<bool> {
        let before = worker.done.bytes;
        let claimed = worker.batch(place, batch)? == Claimed::Done;
        let bytes = worker.done.bytes - before;
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        Ok(claimed && bytes > 0)
    }

    /// The batches of others that nobody has claimed, the last ones first, until none is left.
    fn help(&self, worker: &mut Worker, place: &Place<'_>) -> Result<()> {
        let state = self.image.site().state();
        let mut left: Vec<&Batch> = self.batches.iter().collect();
        let (mut moved, mut received) = (Instant::now(), 0);
        while !self.stopped() {
            let seen = state.steps();
            let before = left.len();
            left.retain(|batch| !batch.rows.iter().all(|&row| state.entry(row)));
            if left.is_empty() {
                break;
            }
            if left.len() < before || state.received() != received {
                moved = Instant::now();
                received = state.received();
            }
            let fair = |batch: &Batch| {
                let taken = self.taken.load(Ordering::Relaxed) + batch.bytes;
                taken <= self.most || moved.elapsed() >= STALL
            };
            let mut helped = false;
            for batch in left.iter().rev() {
                if self.has_arrived(batch) && fair(batch) && self.take(worker, place, batch)? {
                    helped = true;
                    break;
                }
            }
            if !helped {
                state.sleep(seen, NAP);
            }
        }
        Ok(())
    }
}
