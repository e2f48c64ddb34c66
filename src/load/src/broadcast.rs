//! The bundle's bytes from root to the leaders whose nodes need them, chunk by chunk.
//!
//! Three chunks go round in each leader: one is filled (root reads it, the others receive it), one
//! waits, one is stored into the image by a thread of its own. Before each chunk goes a small header
//! with its number, its length and root's status: a leader sleeps until it comes, then takes the
//! chunk itself. When the status says that root could not read on, nothing follows.

use std::{
    ops::Range,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::Instant,
};

use memmap2::MmapMut;
use pybundle_bundle::Index;

use crate::{
    Error, Result,
    patience::{Patience, TICK},
    read,
    store::{Store, put_away},
    transport::{Group, Pace, Transport},
};

/// Bytes of a chunk: a multiple of every page and stripe size.
pub(crate) const CHUNK: usize = 8 << 20;

/// Chunks in flight in each leader.
const RING: usize = 3;

const GOOD: u32 = 0;
const BAD: u32 = 1;

/// Where a chunk starts in the bundle.
pub(crate) fn chunk_offset(number: u64) -> u64 {
    number * CHUNK as u64
}

/// Bytes of a chunk of a bundle with `file_len` bytes.
pub(crate) fn chunk_len(number: u64, file_len: u64) -> usize {
    file_len
        .saturating_sub(chunk_offset(number))
        .min(CHUNK as u64) as usize
}

/// The chunks that hold the bytes of a range.
pub(crate) fn chunks(bytes: &Range<u64>) -> Range<u64> {
    let chunk = CHUNK as u64;
    if bytes.is_empty() {
        return 0..0;
    }
    bytes.start / chunk..bytes.end.div_ceil(chunk)
}

/// One of the ring's buffers.
pub(crate) struct Chunk {
    memory: MmapMut,
    /// Its number.
    pub(crate) number: u64,
    /// Bytes in use.
    pub(crate) len: usize,
}

impl Chunk {
    fn new() -> Result<Self> {
        Ok(Self {
            memory: MmapMut::map_anon(CHUNK)?,
            number: 0,
            len: 0,
        })
    }

    /// Its memory, to be filled with chunk `number`.
    pub(crate) fn fill(&mut self, number: u64, len: usize) -> &mut [u8] {
        self.number = number;
        self.len = len.min(CHUNK);
        &mut self.memory[..self.len]
    }

    /// The bytes in use.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

/// What goes before a chunk.
struct Header {
    number: u64,
    status: u32,
    len: u32,
}

impl Header {
    fn new(number: u64, status: u32, len: usize) -> Self {
        let len = len as u32;
        Self {
            number,
            status,
            len,
        }
    }

    fn to_bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.status.to_le_bytes());
        bytes[12..].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; 16]) -> Self {
        let [number, rest] = bytes.as_chunks::<8>().0 else {
            return Self {
                number: 0,
                status: BAD,
                len: 0,
            };
        };
        let (status, len) = rest.split_at(4);
        let word = |half: &[u8]| half.try_into().map_or(0, u32::from_le_bytes);
        Self {
            number: u64::from_le_bytes(*number),
            status: word(status),
            len: word(len),
        }
    }
}

/// How a transfer ended on this rank.
#[derive(Debug, Default)]
pub(crate) struct Transferred {
    /// Bytes that root has read.
    pub(crate) read: u64,
    /// Bytes that came by broadcast, or went.
    pub(crate) moved: u64,
    /// This rank's own first error: in reading, or in storing what the image must have.
    pub(crate) failed: Option<Error>,
    /// Root could not read on.
    pub(crate) stopped: bool,
}

/// One transfer, as one of its leaders takes part in it.
pub(crate) struct Transfer<'a> {
    /// Root and the leaders whose nodes need something; root is rank 0 of it.
    pub(crate) group: Group,
    /// The bytes that anybody needs.
    pub(crate) bytes: Range<u64>,
    /// Bytes of the bundle.
    pub(crate) file_len: u64,
    /// Root's file and index.
    pub(crate) source: Option<(fs_err::File, Arc<Index<Vec<u8>>>)>,
    /// Where the chunks go on this node, if anywhere.
    pub(crate) store: Option<Store<'a>>,
    /// How a chunk is waited for.
    pub(crate) pace: Pace,
}

impl Transfer<'_> {
    /// Moves all chunks. Collective over the group; the number of calls depends on the range and on
    /// root's status alone.
    ///
    /// # Errors
    /// The ranks can't talk any longer. This rank's own errors are in the result.
    pub(crate) fn run(
        self,
        transport: &mut dyn Transport,
        patience: &mut Patience<'_>,
    ) -> Result<Transferred> {
        let range = chunks(&self.bytes);
        let (free_in, free_out) = mpsc::channel();
        for _ in 0..RING.min((range.end - range.start) as usize) {
            // The channel's other end is ours: it is there.
            let _ = free_in.send(Chunk::new()?);
        }
        thread::scope(|scope| {
            let (store_in, store_out) = mpsc::channel::<Chunk>();
            let store = self.store;
            let stored = scope.spawn(move || put_away(store, &store_out, &free_in));
            let mut done = Transferred::default();
            let source = match self.source {
                Some((file, index)) => {
                    let (filled_in, filled_out) = mpsc::channel();
                    // Without the thread the other end is gone, which is found out below.
                    done.failed =
                        read::start(file, index, range.clone(), free_out, filled_in).err();
                    Source::Root(filled_out)
                }
                None => Source::Broadcast(free_out),
            };
            let (size, root) = (transport.size(self.group), transport.rank(self.group) == 0);
            let mut spare = None;
            for number in range {
                let len = chunk_len(number, self.file_len);
                let mut got = source.next(patience);
                if size > 1 {
                    let status = if root && got.is_err() { BAD } else { GOOD };
                    let mut header = Header::new(number, status, len).to_bytes();
                    patience.collective("root's reading", Pace::Sleep, |wait| {
                        transport.broadcast(self.group, 0, &mut header, wait)
                    })?;
                    let header = Header::from_bytes(header);
                    if header.status != GOOD {
                        done.stopped = true;
                        done.failed = done.failed.or(got.err());
                        break;
                    }
                    if header.number != number || header.len as usize != len {
                        // Root follows another plan: what comes can't be told apart.
                        let text = format!("chunk: expected {number}, got {}", header.number);
                        return Err(Error::Internal(text));
                    }
                    let chunk = match (&mut got, &mut spare) {
                        (Ok(chunk), _) | (Err(_), Some(chunk)) => chunk,
                        // A leader that failed still takes its part of the call.
                        (Err(_), none) => none.insert(Chunk::new()?),
                    };
                    let bytes = if root {
                        &mut chunk.memory[..len]
                    } else {
                        chunk.fill(number, len)
                    };
                    patience.collective("a chunk of the bundle", self.pace, |wait| {
                        transport.broadcast(self.group, 0, bytes, wait)
                    })?;
                    done.moved += len as u64;
                }
                match got {
                    Ok(chunk) => {
                        done.read += if root { len as u64 } else { 0 };
                        // The storing thread takes chunks until this end is dropped.
                        let _ = store_in.send(chunk);
                    }
                    Err(error) => {
                        done.stopped = true;
                        done.failed = done.failed.or(Some(error));
                        if size == 1 {
                            break;
                        }
                    }
                }
            }
            drop(store_in);
            drop(source);
            let stored = stored
                .join()
                .unwrap_or_else(|_| Err(Error::Internal("the storing thread panicked".to_owned())));
            done.failed = done.failed.or(stored.err());
            Ok(done)
        })
    }
}

/// Where a leader's chunks come from.
enum Source {
    /// The reading thread: filled ones.
    Root(Receiver<Result<Chunk>>),
    /// The ring: empty ones, to be filled by a broadcast.
    Broadcast(Receiver<Chunk>),
}

impl Source {
    /// The next chunk, waited for asleep.
    fn next(&self, patience: &mut Patience<'_>) -> Result<Chunk> {
        let start = Instant::now();
        let what = match self {
            Self::Root(_) => "the bundle to be read",
            Self::Broadcast(_) => "room in the node's image",
        };
        loop {
            let got = match self {
                Self::Root(filled) => filled.recv_timeout(TICK),
                Self::Broadcast(free) => free.recv_timeout(TICK).map(Ok),
            };
            match got {
                Ok(chunk) => return chunk,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Internal(
                        "a thread of the transfer ended early".to_owned(),
                    ));
                }
                Err(RecvTimeoutError::Timeout) => {
                    patience.waiting(what, start.elapsed())?;
                    patience.check(what, start.elapsed())?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_a_range_and_no_more() {
        let chunk = CHUNK as u64;
        assert_eq!(chunks(&(5..5)), 0..0);
        assert_eq!(chunks(&(0..1)), 0..1);
        assert_eq!(chunks(&(chunk - 1..chunk + 1)), 0..2);
        assert_eq!(chunks(&(chunk..2 * chunk)), 1..2);
        assert_eq!(chunk_len(1, chunk + 7), 7);
        assert_eq!(chunk_len(0, chunk + 7), CHUNK);
        assert_eq!(chunk_len(2, chunk + 7), 0);
    }

    #[test]
    fn a_header_survives_the_way() {
        let bytes = Header {
            number: 1 << 40,
            status: BAD,
            len: 77,
        }
        .to_bytes();
        let header = Header::from_bytes(bytes);
        assert_eq!(
            (header.number, header.status, header.len),
            (1 << 40, BAD, 77)
        );
    }
}
