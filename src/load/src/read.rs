//! Root's reading: one thread, front to back, in large chunks, while earlier chunks are under way.

use std::{
    io::{Read, Seek, SeekFrom},
    ops::Range,
    os::unix::fs::FileExt,
    sync::{
        Arc,
        mpsc::{Receiver, Sender},
    },
    thread,
};

use fs_err::File;
use pybundle_bundle::{Index, reader::Structure};

use crate::{
    Error, Result,
    broadcast::{Chunk, chunk_len, chunk_offset},
};

/// Starts reading chunks `range` of the bundle, each into a chunk that comes out of `free`. Ends
/// with the first error, which goes the same way as the chunks. Nobody waits for the thread: a file
/// system may never answer.
pub(crate) fn start(
    mut file: File,
    index: Arc<Index<Vec<u8>>>,
    range: Range<u64>,
    free: Receiver<Chunk>,
    filled: Sender<Result<Chunk>>,
) -> Result<()> {
    let read = move || {
        let mut structure = Structure::new();
        let mut at = None;
        for number in range {
            let Ok(mut chunk) = free.recv() else { return };
            let offset = chunk_offset(number);
            let len = chunk_len(number, index.header().file_len);
            let mut fill = || -> Result<()> {
                if at != Some(offset) {
                    file.seek(SeekFrom::Start(offset))?;
                }
                let bytes = chunk.fill(number, len);
                file.read_exact(bytes)?;
                structure.check(&index, offset, bytes)?;
                at = Some(offset + len as u64);
                Ok(())
            };
            let result = fill();
            let failed = result.is_err();
            let sent = filled.send(result.map(|()| chunk));
            if failed || sent.is_err() {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("pybundle-read".to_owned());
    thread.spawn(read).map(drop).map_err(Error::Io)
}

/// Compares the end of the bundle, its directory, with the index: for loads that don't get there.
pub(crate) fn check_directory(file: &File, index: &Index<Vec<u8>>) -> Result<()> {
    let at = index.header().directory;
    let len = index.header().file_len.saturating_sub(at) as usize;
    let mut bytes = vec![0; len];
    file.file().read_exact_at(&mut bytes, at)?;
    // A check that starts here passes over the entries, none of which reaches so far.
    Ok(Structure::new().check(index, at, &bytes)?)
}
