//! The collective calls of the plug-in's table, made safe: memory that MPI uses is kept alive and
//! untouched until MPI has done with it, also when the wait for that fails.

#![expect(
    unsafe_code,
    reason = "passes memory to the C functions of a library opened at run time"
)]

use std::{ffi::c_int, mem::ManuallyDrop};

use super::{
    Error, Result, Wait,
    interface::{Coded, NO_GROUP},
    plugin::{Plugin, abort_now},
    say,
};

impl Plugin {
    pub(super) fn place(&self, group: u32) -> Result<(u32, u32)> {
        let (mut rank, mut size) = (0, 0);
        // SAFETY: both are writable for the call.
        self.check(unsafe { (self.table.place)(group, &raw mut rank, &raw mut size) })?;
        Ok((rank, size))
    }

    pub(super) fn join(&self, wait: &mut Wait<'_>) -> Result<()> {
        let mut request = 0;
        // SAFETY: `request` is writable for the call.
        self.check(unsafe { (self.table.start_join)(&raw mut request) })?;
        self.complete(request, (), wait)
    }

    pub(super) fn barrier(&self, group: u32, wait: &mut Wait<'_>) -> Result<()> {
        let mut request = 0;
        // SAFETY: `request` is writable for the call.
        self.check(unsafe { (self.table.start_barrier)(group, &raw mut request) })?;
        self.complete(request, (), wait)
    }

    pub(super) fn split_shared(&self, group: u32) -> Result<u32> {
        let mut new = NO_GROUP;
        // SAFETY: `new` is writable for the call.
        self.check(unsafe { (self.table.split_shared)(group, &raw mut new) })?;
        Ok(new)
    }

    pub(super) fn split(&self, group: u32, color: c_int, key: c_int) -> Result<Option<u32>> {
        let mut new = NO_GROUP;
        // SAFETY: `new` is writable for the call.
        self.check(unsafe { (self.table.split)(group, color, key, &raw mut new) })?;
        Ok((new != NO_GROUP).then_some(new))
    }

    /// Blocks until the bytes have come or, at root, may be reused. At most 2^31-1 bytes.
    pub(super) fn broadcast(&self, group: u32, root: u32, bytes: &mut [u8]) -> Result<()> {
        let length = length_of(bytes)?;
        // SAFETY: the memory is ours to read and write until the call returns.
        self.check(unsafe { (self.table.broadcast)(group, root, bytes.as_mut_ptr(), length) })
    }

    /// As [`broadcast`](Self::broadcast), polled, in memory that MPI can keep if the wait fails.
    pub(super) fn broadcast_owned(
        &self,
        group: u32,
        root: u32,
        bytes: Vec<u8>,
        wait: &mut Wait<'_>,
    ) -> Result<Vec<u8>> {
        let (length, mut request) = (length_of(&bytes)?, 0);
        let mut bytes = in_memory(bytes);
        let memory = bytes.as_mut_ptr();
        // SAFETY: `complete` keeps the vector, unmoved in memory, for as long as MPI uses it.
        self.check(unsafe {
            (self.table.start_broadcast)(group, root, memory, length, &raw mut request)
        })?;
        self.complete(request, bytes, wait)
    }

    /// As [`broadcast`](Self::broadcast), polled. The memory is borrowed and MPI cannot give it
    /// back early, so a failing wait ends the job, with the error in front of it that names this process by rank and size of the world.
    pub(super) fn broadcast_or_abort(
        &self,
        group: u32,
        root: u32,
        bytes: &mut [u8],
        (rank, size): (u32, u32),
        wait: &mut Wait<'_>,
    ) -> Result<()> {
        /// Ends the job when dropped, by an error or a panic of the wait.
        struct Abort;
        impl Drop for Abort {
            fn drop(&mut self) {
                abort_now(1);
            }
        }
        let (length, mut request) = (length_of(bytes)?, 0);
        let memory = bytes.as_mut_ptr();
        // SAFETY: this function does not return before the request is complete.
        self.check(unsafe {
            (self.table.start_broadcast)(group, root, memory, length, &raw mut request)
        })?;
        let guard = Abort;
        if let Err(error) = wait.until(|| self.test(request)) {
            say::in_turn(rank);
            say::last(&format!("error: [rank {rank}/{size}] {error}"));
            drop(guard);
        } else {
            std::mem::forget(guard);
        }
        Ok(())
    }

    /// Lowest code, then lowest rank, over the group.
    pub(super) fn lowest(&self, group: u32, mine: Coded, wait: &mut Wait<'_>) -> Result<Coded> {
        let mut pair = Box::new([mine, Coded::default()]);
        let mut request = 0;
        let memory = pair.as_mut_ptr();
        // SAFETY: `complete` keeps the box for as long as MPI uses it.
        self.check(unsafe { (self.table.start_lowest)(group, memory, &raw mut request) })?;
        Ok(self.complete(request, pair, wait)?[1])
    }

    /// Gathers at most 2^31-1 bytes in all; `lengths` is empty but at root, as is the answer.
    pub(super) fn gather(
        &self,
        group: u32,
        root: u32,
        part: Vec<u8>,
        lengths: Vec<c_int>,
        wait: &mut Wait<'_>,
    ) -> Result<Vec<u8>> {
        let mut total: c_int = 0;
        let mut offsets = Vec::with_capacity(lengths.len());
        for &length in &lengths {
            offsets.push(total);
            let too_large = || {
                too_large(
                    "a gather",
                    u64::from(total.unsigned_abs()) + u64::from(length.unsigned_abs()),
                )
            };
            total = total.checked_add(length).ok_or_else(too_large)?;
        }
        let (length, mut request) = (length_of(&part)?, 0);
        let part = in_memory(part);
        let mut all = in_memory(vec![0; usize::try_from(total).unwrap_or(0)]);
        let (from, to) = (part.as_ptr(), all.as_mut_ptr());
        let (lengths_at, offsets_at) = (lengths.as_ptr(), offsets.as_ptr());
        // SAFETY: `complete` keeps the four vectors, unmoved in memory, for as long as MPI uses
        // them; `all` has room for the sum of `lengths`.
        self.check(unsafe {
            (self.table.start_gather)(
                group,
                root,
                from,
                length,
                to,
                lengths_at,
                offsets_at,
                &raw mut request,
            )
        })?;
        Ok(self
            .complete(request, (all, part, lengths, offsets), wait)?
            .0)
    }

    pub(super) fn free(&self, group: u32) -> Result<()> {
        // SAFETY: the plug-in checks the number.
        self.check(unsafe { (self.table.free)(group) })
    }

    /// Waits for a request and gives its memory back; leaves the memory to MPI if that fails.
    fn complete<T>(&self, request: u64, memory: T, wait: &mut Wait<'_>) -> Result<T> {
        let memory = ManuallyDrop::new(memory);
        wait.until(|| self.test(request))?;
        Ok(ManuallyDrop::into_inner(memory))
    }

    fn test(&self, request: u64) -> Result<bool> {
        let mut done = 0;
        // SAFETY: `done` is writable for the call.
        self.check(unsafe { (self.table.test)(request, &raw mut done) })?;
        Ok(done != 0)
    }
}

/// Gives an empty vector an address in memory: Open MPI takes the address 1, which it has
/// otherwise, for `MPI_IN_PLACE`.
fn in_memory(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.reserve(1);
    bytes
}

fn length_of(bytes: &[u8]) -> Result<u32> {
    let length = c_int::try_from(bytes.len()).map(c_int::unsigned_abs);
    length.map_err(|_| too_large("a message", bytes.len() as u64))
}

/// The error for more than fits MPI's signed 32-bit numbers.
pub(super) fn too_large(what: &'static str, got: u64) -> Error {
    Error::TooLarge {
        what,
        limit: c_int::MAX.unsigned_abs().into(),
        got,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_refused() {
        assert!(length_of(&[0; 8]).is_ok());
        let error = too_large("a message", 1 << 31).to_string();
        assert_eq!(
            error,
            "a message is too large: expected at most 2147483647, got 2147483648"
        );
    }
}
