//! What has arrived, into the node's image: the last stop of a chunk before it goes round again.

use std::{
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
    sync::mpsc::{Receiver, Sender},
};

use crate::{
    Job, Result,
    broadcast::{Chunk, chunk_offset},
    error::io_at,
    image::{Image, site, state::Cold},
};

/// What a leader does with the chunks.
pub(crate) struct Store<'a> {
    /// The image.
    pub(crate) image: &'a Image,
    /// Told at once when the image can't get what it must.
    pub(crate) job: &'a Job,
    /// Bytes of the bundle that it needs.
    pub(crate) bytes: Range<u64>,
    /// Those before this offset must get in; those after may be left in the bundle.
    pub(crate) must: u64,
}

/// Stores chunks into the image and gives them back to the ring.
pub(crate) fn put_away(
    store: Option<Store<'_>>,
    chunks: &Receiver<Chunk>,
    free: &Sender<Chunk>,
) -> Result<()> {
    let mut storing = store.map(Storing::open).transpose();
    while let Ok(chunk) = chunks.recv() {
        let failed = match &mut storing {
            Ok(Some(storing)) => storing.put(&chunk).inspect_err(|error| {
                storing.store.job.fail(error.is_local());
                storing.store.image.site().state().step();
            }),
            _ => Ok(()),
        };
        if let Err(error) = failed {
            storing = Err(error);
        }
        // Without a taker the transfer is over.
        let _ = free.send(chunk);
    }
    if let Ok(Some(storing)) = &storing {
        storing.finish();
    }
    storing.map(drop)
}

struct Storing<'a> {
    store: Store<'a>,
    file: File,
    /// The node has no room for more: what may be left in the bundle stays there.
    full: bool,
    end: u64,
}

impl<'a> Storing<'a> {
    fn open(store: Store<'a>) -> Result<Self> {
        let path = store.image.dir().join(site::PACKED);
        let file = site::open_file(&path)?;
        let end = store.bytes.start;
        Ok(Self {
            store,
            file,
            full: false,
            end,
        })
    }

    fn put(&mut self, chunk: &Chunk) -> Result<()> {
        let (image, wanted) = (self.store.image, &self.store.bytes);
        let state = image.site().state();
        let offset = chunk_offset(chunk.number);
        let end = (offset + chunk.len as u64).min(wanted.end);
        let start = offset.max(wanted.start).min(end);
        // Another job may have been quicker.
        let known = end <= self.store.must && state.received() >= end;
        if start < end && !self.full && !known {
            let bytes = &chunk.bytes()[(start - offset) as usize..(end - offset) as usize];
            match self.file.write_all_at(bytes, start) {
                Ok(()) => {}
                Err(_) if start >= self.store.must => self.full = true,
                Err(error) => {
                    let path = image.dir().join(site::PACKED);
                    return Err(io_at("cannot write", &path, error));
                }
            }
        }
        self.end = end;
        state.set_received(end);
        Ok(())
    }

    /// Settles where cold entries are read from.
    fn finish(&self) {
        let wanted = &self.store.bytes;
        let all = !self.full && self.end >= wanted.end && wanted.end > self.store.must;
        let cold = if all { Cold::Node } else { Cold::Bundle };
        self.store.image.site().state().set_cold(cold);
    }
}
