//! Memory that processes share: the one file of this crate's image code that needs `unsafe`.
//!
//! A [`Mapping`] is read-only and holds what no longer changes; a [`Shared`] holds atomics alone; a
//! [`Target`] is a new file that one thread fills. Files lie in a folder that only this user can
//! enter, keep their length while they are mapped, and are allocated before they are written
//! through a mapping, so that a full file system is an error code and never a SIGBUS. None of them
//! enters core dumps.

#![expect(
    unsafe_code,
    reason = "maps files, views shared memory as atomics, waits on a futex"
)]

use std::{
    fs::File,
    io,
    ops::{Deref, DerefMut},
    sync::atomic::{AtomicU8, AtomicU32},
    time::Duration,
};

use memmap2::{Advice, Mmap, MmapMut, MmapOptions, MmapRaw};

use crate::Counters;

/// A file of the image, mapped read-only.
#[derive(Debug)]
pub struct Mapping(Mmap);

impl Mapping {
    /// Maps a whole file.
    pub(crate) fn open(file: &File) -> io::Result<Self> {
        // SAFETY: the file lies in a private folder, is not truncated by us while the image is
        // locked, and bytes of it are read only after they were completely written.
        let map = unsafe { Mmap::map(file) }?;
        if !map.is_empty() {
            map.advise(Advice::DontDump)?;
        }
        Ok(Self(map))
    }

    /// Maps a part of a file.
    pub(crate) fn part(file: &File, at: u64, len: usize) -> io::Result<Self> {
        // SAFETY: as for a whole one. Two jobs may fill the same file at once, with the same bytes of
        // one bundle: what is read here was written before, and doesn't change by being written
        // again.
        let map = unsafe { MmapOptions::new().offset(at).len(len).populate().map(file) }?;
        map.advise(Advice::DontDump)?;
        Ok(Self(map))
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A new file being filled in place by its one owner.
pub(crate) struct Target(MmapMut);

impl Target {
    /// Maps a new file of `len` bytes, which are allocated already; `len` is not 0.
    pub(crate) fn new(file: &File, len: usize) -> io::Result<Self> {
        // SAFETY: the file was just made under a private name and its claim is held: no other
        // thread or process opens it before it is renamed, after this mapping is gone.
        let map = unsafe { MmapOptions::new().len(len).populate().map_mut(file) }?;
        map.advise(Advice::DontDump)?;
        Ok(Self(map))
    }
}

impl Deref for Target {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Target {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// Types made of atomics alone, without padding that matters: every bit pattern is a value.
///
/// # Safety
/// Implemented only for `repr(C)` types whose fields are all atomic integers.
pub(crate) unsafe trait Atoms {}

// SAFETY: an atomic integer.
unsafe impl Atoms for AtomicU8 {}
// SAFETY: `repr(C)`, atomic integers alone.
unsafe impl Atoms for Counters {}
// SAFETY: `repr(C)`, atomic integers alone.
unsafe impl Atoms for super::state::Header {}
// SAFETY: `repr(C)`, atomic integers alone.
unsafe impl Atoms for crate::job::Header {}
// SAFETY: `repr(C)`, atomic integers alone.
unsafe impl Atoms for crate::job::SlotHeader {}

/// A file mapped for reading and writing, seen as atomics.
#[derive(Debug)]
pub(crate) struct Shared(MmapRaw);

impl Shared {
    /// Maps a whole file whose bytes are allocated.
    pub(crate) fn open(file: &File) -> io::Result<Self> {
        let map = MmapOptions::new().map_raw(file)?;
        map.advise(Advice::DontDump)?;
        Ok(Self(map))
    }

    /// Bytes mapped.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// `count` values of type `T` from offset `at` on; `None` if they lie outside or are unaligned.
    pub(crate) fn view<T: Atoms>(&self, at: usize, count: usize) -> Option<&[T]> {
        let end = count.checked_mul(size_of::<T>())?.checked_add(at)?;
        if end > self.0.len() || !at.is_multiple_of(align_of::<T>()) {
            return None;
        }
        let start = self.0.as_ptr().wrapping_add(at).cast::<T>();
        // SAFETY: inside the mapping, which lives as long as `self`; aligned, since mappings start
        // at a page; all processes access these bytes through atomics alone.
        Some(unsafe { std::slice::from_raw_parts(start, count) })
    }

    /// The value of type `T` at offset `at`.
    pub(crate) fn one<T: Atoms>(&self, at: usize) -> Option<&T> {
        self.view(at, 1)?.first()
    }
}

/// Sleeps until `word` is woken, unless it differs from `seen`; at most for `timeout`. May return
/// early.
pub(crate) fn wait(word: &AtomicU32, seen: u32, timeout: Duration) {
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().cast_signed(),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: the address is of a live atomic, the time of a live value; the call changes neither.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            seen,
            &raw const timeout,
        )
    };
}

/// Wakes all that sleep on `word`, in every process.
pub(crate) fn wake(word: &AtomicU32) {
    // SAFETY: the address is of a live atomic, which the call doesn't change.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn two_mappings_of_a_file_are_one_memory() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let (one, two) = (Shared::open(&file).unwrap(), Shared::open(&file).unwrap());
        one.view::<AtomicU8>(100, 3).unwrap()[2].store(7, Ordering::Relaxed);
        assert_eq!(two.one::<AtomicU8>(102).unwrap().load(Ordering::Relaxed), 7);
        assert!(two.view::<AtomicU8>(4095, 2).is_none());
        assert!(two.one::<Counters>(4).is_none(), "unaligned");
        assert!(two.view::<AtomicU8>(usize::MAX, 2).is_none());
    }

    #[test]
    fn a_wait_ends_by_wake_change_or_time() {
        let word = AtomicU32::new(1);
        wait(&word, 0, Duration::from_secs(60));
        wait(&word, 1, Duration::from_millis(5));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while word.load(Ordering::Acquire) == 1 {
                    wait(&word, 1, Duration::from_secs(60));
                }
            });
            std::thread::sleep(Duration::from_millis(20));
            word.store(2, Ordering::Release);
            wake(&word);
        });
    }
}
