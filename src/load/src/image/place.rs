//! Placing on demand: whoever gets to a cold group first decodes it, many at once share the work.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use nix::fcntl::{FallocateFlags, fallocate};
use pybundle_bundle::{
    name,
    record::{ENTRY_LAZY, Kind, Node, some},
};

use super::{
    Image, site,
    state::Cold,
    stored::Stored,
    work::{self, Batch, Claimed, Done, Place, Worker},
};
use crate::{Error, Result, folder};

/// Longest sleep while others hold what is needed: a dead owner's claim is found free after it.
const NAP: Duration = Duration::from_millis(20);

/// Symlinks followed from one entry to the next.
const HOPS: usize = 16;

/// Fewer bytes than this are not worth a thread.
const PARALLEL: u64 = 8 << 20;

impl Image {
    /// Has the group been placed? One atomic load.
    pub fn is_placed(&self, group: u32) -> bool {
        self.site.state().group(group)
    }

    /// Places a group's files (those on request only excepted) and its companions'. Nothing to do
    /// costs one atomic load; many processes at once share the work.
    ///
    /// # Errors
    /// [`Error::Entry`] for an entry that is corrupt or finds no room, [`Error::TimedOut`].
    pub fn place(&self, group: u32) -> Result<()> {
        if self.is_placed(group) {
            return Ok(());
        }
        let (groups, mut rows) = self.to_place(group)?;
        if self.site.state().is_sparse() {
            // Where threads are at work on a package anyway, its code is not left for one by one.
            rows.extend(groups.iter().flat_map(|&group| self.code_of(group)));
            rows.sort_unstable();
            rows.dedup();
        }
        self.put(&rows)?;
        self.follow(&rows)?;
        for group in groups {
            self.site.state().set_group(group);
        }
        Ok(())
    }

    /// The blocks in which code of a group's modules lies.
    fn code_of(&self, group: u32) -> impl Iterator<Item = u32> + '_ {
        let table = self.code_of_groups.get_or_init(|| {
            let coded = self
                .modules()
                .filter(|(_, module)| module.code_at != u64::MAX);
            let pairs = coded.filter_map(|(row, module)| {
                Some((some(module.group)?, self.blocks.of_module(row)?.entry))
            });
            pairs.collect()
        });
        table
            .range((group, 0)..=(group, u32::MAX))
            .map(|&(_, entry)| entry)
    }

    /// Bytes that [`Self::place`] would have to put into the tree.
    ///
    /// # Errors
    /// [`Error::Row`] for a group that the index doesn't have.
    pub fn bytes_to_place(&self, group: u32) -> Result<u64> {
        let (_, rows) = self.to_place(group)?;
        let entries = rows.iter().filter_map(|&row| self.index.entry(row));
        Ok(entries.map(|entry| entry.size).sum())
    }

    /// The groups that come with one, itself included, as far as they aren't placed, and their
    /// entries, ascending.
    fn to_place(&self, group: u32) -> Result<(BTreeSet<u32>, Vec<u32>)> {
        let (mut groups, mut rows) = (BTreeSet::new(), BTreeSet::new());
        let mut next = vec![group];
        while let Some(row) = next.pop() {
            if self.is_placed(row) || !groups.insert(row) {
                continue;
            }
            let found = self
                .index
                .group(row)
                .ok_or(Error::Row { what: "group", row })?;
            let wanted = |&row: &u32| {
                let entry = self.index.entry(row);
                entry.is_some_and(|entry| entry.flags & ENTRY_LAZY == 0)
            };
            rows.extend(self.index.group_entries(&found).filter(wanted));
            next.extend(self.index.companions(&found));
        }
        Ok((groups, Vec::from_iter(rows)))
    }

    /// Places one file, on request only or not, and gives its path. The file that a symlink leads
    /// to is placed with it.
    ///
    /// # Errors
    /// As [`Self::place`].
    pub fn place_entry(&self, entry: u32) -> Result<PathBuf> {
        let row = entry;
        let found = self
            .index
            .entry(row)
            .ok_or(Error::Row { what: "entry", row })?;
        self.put(&[row])?;
        self.follow(&[row])?;
        Ok(self
            .tree()
            .join(OsStr::from_bytes(self.index.text(found.path))))
    }

    /// Makes folders, so that programs that list the one above find them before any of their files
    /// is placed.
    ///
    /// # Errors
    /// [`Error::Io`] if one can't be made.
    pub fn make_folders(&self, rows: impl IntoIterator<Item = u32>) -> Result<()> {
        let state = self.site.state();
        let mut missing = rows
            .into_iter()
            .filter(|&row| !state.folder(row))
            .peekable();
        if missing.peek().is_none() {
            return Ok(());
        }
        let mut worker = self.worker()?;
        let result = missing.try_for_each(|row| worker.make_folder(&self.index, state, row));
        self.give_back(worker);
        result
    }

    /// Places every file and decodes all code.
    ///
    /// # Errors
    /// As [`Self::place`].
    pub fn place_all(&self) -> Result<()> {
        let rows: Vec<u32> = (1..self.index.entries()).collect();
        self.put(&rows)?;
        for group in 0..self.index.groups() {
            self.site.state().set_group(group);
        }
        // Nobody has a use for what is compressed.
        self.site.state().set_sparse(false);
        self.release(self.index.header().file_len);
        Ok(())
    }

    /// Gives the room of compressed bytes back that are decoded: those before `offset`. Never more
    /// while entries are missing: another job may be storing what lies behind.
    pub(crate) fn release(&self, offset: u64) {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let file = site::open_file(&self.dir().join(site::PACKED));
        if let (Ok(file), Ok(len @ 1..)) = (file, i64::try_from(offset)) {
            // A file system that can't make holes keeps them: the image is larger, not wrong.
            let _ = fallocate(&file, flags, 0, len);
        }
    }

    /// Files that are not in the tree, and their bytes.
    pub fn not_placed(&self) -> (u64, u64) {
        let rows = (1..self.index.entries()).filter(|&row| !self.site.state().entry(row));
        rows.filter_map(|row| self.index.entry(row))
            .filter(|entry| entry.kind != Kind::Code as u8)
            .fold((0, 0), |(files, bytes), entry| {
                (files + 1, bytes + entry.size)
            })
    }

    /// Places what symlinks among placed entries lead to, hop by hop.
    fn follow(&self, rows: &[u32]) -> Result<()> {
        let is_link = |&row: &u32| {
            let entry = self.index.entry(row);
            entry.is_some_and(|entry| entry.kind == Kind::Link as u8)
        };
        let mut links: Vec<u32> = rows.iter().copied().filter(is_link).collect();
        for _ in 0..HOPS {
            let targets: Vec<u32> = links.iter().filter_map(|&row| self.target(row)).collect();
            if targets.is_empty() {
                break;
            }
            self.put(&targets)?;
            links = targets.into_iter().filter(is_link).collect();
        }
        Ok(())
    }

    /// The entry that a placed symlink names, if it is one of the bundle.
    fn target(&self, link: u32) -> Option<u32> {
        let entry = self.index.entry(link)?;
        let path = self.index.text(entry.path);
        let target = std::fs::read_link(self.tree().join(OsStr::from_bytes(path))).ok()?;
        let target = target.as_os_str().as_bytes();
        if target.starts_with(b"/") {
            return None;
        }
        let mut parts: Vec<&[u8]> = name::split(path).0.split(|&byte| byte == b'/').collect();
        for part in target.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop()?),
                _ => parts.push(part),
            }
        }
        parts.retain(|part| !part.is_empty());
        match self.index.find(&parts.join(&b'/'))? {
            Node::Entry(row) => Some(row),
            Node::Folder(_) => None,
        }
    }

    /// Gets entries, in ascending order, into place.
    pub(super) fn put(&self, rows: &[u32]) -> Result<()> {
        let state = self.site.state();
        let missing = rows.iter().copied().filter(|&row| !state.entry(row));
        let batches = work::batches(&self.index, missing);
        if batches.is_empty() {
            return Ok(());
        }
        let place = self.place_with(self.stored()?);
        let bytes: u64 = batches.iter().map(|batch| batch.bytes).sum();
        // The other ranks of the node help; a process that is alone helps itself.
        let (slot, ranks) = self.job.get().map_or((0, 1), |job| job.place());
        let threads = if ranks == 1 && bytes >= PARALLEL {
            cores().min(batches.len())
        } else {
            1
        };
        if threads == 1 {
            return self.share(&place, &batches, batches.len() * slot / ranks);
        }
        thread::scope(|scope| {
            let start = |thread| {
                let (place, batches) = (&place, &batches);
                let first = batches.len() * thread / threads;
                scope.spawn(move || self.share(place, batches, first))
            };
            let handles: Vec<_> = (1..threads).map(start).collect();
            let mut result = self.share(&place, &batches, 0);
            for handle in handles {
                let other = handle.join().unwrap_or_else(|_| Err(panicked()));
                result = result.and(other);
            }
            result
        })
    }

    /// Works on batches from number `first` on, and around, until all are done.
    fn share(&self, place: &Place<'_>, batches: &[Batch], first: usize) -> Result<()> {
        let mut worker = self.worker()?;
        let result = self.work_off(&mut worker, place, batches, first);
        if let Some(job) = self.job.get() {
            let (count, done) = (job.count(), worker.done);
            count
                .demand_entries
                .fetch_add(done.entries, Ordering::Relaxed);
            count.demand_bytes.fetch_add(done.bytes, Ordering::Relaxed);
            count.files_placed.fetch_add(done.files, Ordering::Relaxed);
            count.bytes_read.fetch_add(done.read, Ordering::Relaxed);
        }
        worker.done = Done::default();
        self.give_back(worker);
        result
    }

    fn give_back(&self, mut worker: Worker) {
        worker.rest();
        if let Ok(mut workers) = self.workers.try_lock() {
            workers.push(worker);
        }
    }

    fn work_off(
        &self,
        worker: &mut Worker,
        place: &Place<'_>,
        batches: &[Batch],
        first: usize,
    ) -> Result<()> {
        let state = self.site.state();
        let mut left: Vec<&Batch> = batches[first..].iter().chain(&batches[..first]).collect();
        let mut moved = Instant::now();
        loop {
            let seen = state.steps();
            let mut kept = Vec::new();
            for batch in &left {
                if worker.batch(place, batch)? == Claimed::Taken {
                    kept.push(*batch);
                }
            }
            if kept.is_empty() {
                return Ok(());
            }
            if kept.len() < left.len() {
                moved = Instant::now();
            }
            left = kept;
            let waited = moved.elapsed();
            if self.timeout.is_some_and(|timeout| waited >= timeout) {
                return Err(Error::TimedOut {
                    who: format!("process {} on {}", std::process::id(), folder::node_name()),
                    what: format!("entries that others decode: `{}`", self.dir().display()),
                    seconds: waited.as_secs_f64(),
                });
            }
            state.sleep(seen, NAP);
        }
    }

    /// Tools that this process has used before, or new ones.
    pub(crate) fn worker(&self) -> Result<Worker> {
        // After a fork the list may be locked for ever: then it is left alone.
        let known = self.workers.try_lock().ok().and_then(|mut workers| {
            workers.retain(Worker::is_ours);
            workers.pop()
        });
        known.map_or_else(|| Worker::open(&self.site), Ok)
    }

    /// What entries need, with their bytes from `stored`.
    pub(crate) fn place_with<'a>(&'a self, stored: &'a Stored) -> Place<'a> {
        Place {
            site: &self.site,
            index: &self.index,
            manifest: &self.manifest,
            blocks: &self.blocks,
            prefix: &self.prefix,
            bundle: &self.bundle,
            stored,
        }
    }

    /// What children need to read the bundle as this process does, if it does.
    pub fn lend(&self) -> Option<String> {
        self.stored.get()?.lend()
    }

    /// In a child, with what [`Self::lend`] gave its parent.
    pub fn borrow(&self, lent: &str) {
        if self.site.state().cold() == Cold::Bundle
            && let Some(stored) = Stored::borrow(lent, &self.bundle, self.index.header().file_len)
        {
            self.set_stored(stored);
        }
    }

    /// Where cold entries are read from.
    pub(crate) fn stored(&self) -> Result<&Stored> {
        if let Some(stored) = self.stored.get() {
            return Ok(stored);
        }
        let stored = if self.site.state().cold() == Cold::Node {
            let path = self.dir().join(site::PACKED);
            Stored::packed(site::open_file(&path)?, &path)
        } else {
            Stored::reopen(&self.bundle, self.index.header().file_len)?
        };
        Ok(self.stored.get_or_init(|| stored))
    }
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// A worker thread's end that is our bug.
pub(crate) fn panicked() -> Error {
    Error::Internal("a decoding thread panicked".to_owned())
}
