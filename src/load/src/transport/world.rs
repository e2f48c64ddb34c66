//! An MPI job, through a plug-in.

use std::{collections::HashMap, ffi::c_int};

use super::{
    Error, Flavour, Group, Lowest, Pace, Result, ThreadLevel, Transport, Wait,
    calls::too_large,
    interface::{Coded, Started},
    plugin::{Plugin, abort_now},
    say,
};

/// Longest piece of a broadcast: MPI counts are signed 32-bit numbers, and libraries make
/// temporary copies of what they send.
const PIECE: usize = 64 << 20;

/// Longest piece of a polled broadcast that goes through memory of its own.
const STAGED: usize = 1 << 20;

/// Most bytes that root receives in one round of a gather.
const ROUND: usize = 1 << 30;

/// The ranks of MPI_COMM_WORLD.
#[derive(Debug)]
pub struct World {
    plugin: &'static Plugin,
    library: String,
    rank: u32,
    size: u32,
    thread_level: ThreadLevel,
    initialised_here: bool,
    /// Rank and size in each group made by a split.
    places: HashMap<u32, (u32, u32)>,
}

impl World {
    /// Starts MPI, with the highest thread level, or finds that the program has done so.
    ///
    /// `wait.timeout` bounds `MPI_Init` too: see [`Plugin`]. Nothing else of `wait` is used.
    ///
    /// # Errors
    /// [`Error::Mpi`]: MPI cannot be started, or was finalised already.
    pub fn start(plugin: &'static Plugin, wait: &Wait<'_>) -> Result<Self> {
        let Started {
            rank,
            size,
            thread_level,
            initialised_here,
        } = plugin.start(wait)?;
        let library = short_name(&plugin.library());
        let thread_level = match thread_level {
            0 => ThreadLevel::Single,
            1 => ThreadLevel::Funneled,
            2 => ThreadLevel::Serialized,
            _ => ThreadLevel::Multiple,
        };
        let places = HashMap::new();
        let initialised_here = initialised_here != 0;
        Ok(Self {
            plugin,
            library,
            rank,
            size,
            thread_level,
            initialised_here,
            places,
        })
    }

    /// The plug-in in use.
    pub fn plugin(&self) -> &'static Plugin {
        self.plugin
    }

    fn known(&mut self, group: u32) -> Result<Group> {
        self.places.insert(group, self.plugin.place(group)?);
        Ok(Group(group))
    }

    fn place(&self, group: Group) -> (u32, u32) {
        if group == Group::WORLD {
            return (self.rank, self.size);
        }
        let place = self.places.get(&group.0).copied();
        debug_assert!(place.is_some(), "{group:?} was never made, or was freed");
        place.unwrap_or((0, 1))
    }

    fn check_root(&self, group: Group, root: u32) -> Result<()> {
        let size = self.size(group);
        if root < size {
            Ok(())
        } else {
            Err(Error::NoSuchRank { rank: root, size })
        }
    }

    /// One round of a gather: `lengths` at root alone.
    fn gather_round(
        &self,
        group: Group,
        root: u32,
        part: &[u8],
        lengths: &[usize],
        wait: &mut Wait<'_>,
    ) -> Result<Vec<u8>> {
        let count = |&length: &usize| {
            c_int::try_from(length).map_err(|_| too_large("a gather", length as u64))
        };
        let lengths = lengths.iter().map(count).collect::<Result<Vec<_>>>()?;
        self.plugin
            .gather(group.0, root, part.to_vec(), lengths, wait)
    }
}

impl Transport for World {
    fn library(&self) -> &str {
        &self.library
    }

    fn flavour(&self) -> Option<Flavour> {
        Some(self.plugin.flavour())
    }

    fn thread_level(&self) -> ThreadLevel {
        self.thread_level
    }

    fn initialised_here(&self) -> bool {
        self.initialised_here
    }

    fn rank(&self, group: Group) -> u32 {
        self.place(group).0
    }

    fn size(&self, group: Group) -> u32 {
        self.place(group).1
    }

    fn join(&mut self, wait: &mut Wait<'_>) -> Result<()> {
        let (rank, size) = (self.rank, self.size);
        self.plugin.join(wait).map_err(|error| match error {
            Error::TimedOut { seconds, .. } => {
                // All ranks that came give up at once, and have the same to say.
                say::in_turn(rank);
                Error::NotJoined {
                    rank,
                    size,
                    seconds,
                }
            }
            error => error,
        })
    }

    fn barrier(&mut self, group: Group, wait: &mut Wait<'_>) -> Result<()> {
        self.plugin.barrier(group.0, wait)
    }

    fn split_shared(&mut self, group: Group, wait: &mut Wait<'_>) -> Result<Group> {
        // MPI's splits block: they are called when all ranks have come, under the deadline.
        self.plugin.barrier(group.0, wait)?;
        let new = self.plugin.split_shared(group.0)?;
        self.known(new)
    }

    fn split(
        &mut self,
        group: Group,
        color: Option<u32>,
        key: u32,
        wait: &mut Wait<'_>,
    ) -> Result<Option<Group>> {
        let number =
            |what, number: u32| c_int::try_from(number).map_err(|_| too_large(what, number.into()));
        let color = color
            .map(|color| number("a color", color))
            .transpose()?
            .unwrap_or(-1);
        let key = number("a key", key)?;
        self.plugin.barrier(group.0, wait)?;
        let new = self.plugin.split(group.0, color, key)?;
        new.map(|new| self.known(new)).transpose()
    }

    fn broadcast(
        &mut self,
        group: Group,
        root: u32,
        buffer: &mut [u8],
        wait: &mut Wait<'_>,
    ) -> Result<()> {
        self.check_root(group, root)?;
        for piece in buffer.chunks_mut(PIECE) {
            if wait.pace == Pace::Block {
                self.plugin.broadcast(group.0, root, piece)?;
            } else if piece.len() <= STAGED {
                let sent = self
                    .plugin
                    .broadcast_owned(group.0, root, piece.to_vec(), wait)?;
                piece.copy_from_slice(&sent);
            } else {
                let here = (self.rank, self.size);
                self.plugin
                    .broadcast_or_abort(group.0, root, piece, here, wait)?;
            }
        }
        Ok(())
    }

    fn lowest(&mut self, group: Group, code: i64, wait: &mut Wait<'_>) -> Result<Lowest> {
        let mine = Coded {
            code,
            rank: self.rank(group).into(),
        };
        let Coded { code, rank } = self.plugin.lowest(group.0, mine, wait)?;
        Ok(Lowest {
            code,
            rank: u32::try_from(rank).unwrap_or(0),
        })
    }

    fn gather(
        &mut self,
        group: Group,
        root: u32,
        part: &[u8],
        wait: &mut Wait<'_>,
    ) -> Result<Option<Vec<Vec<u8>>>> {
        self.check_root(group, root)?;
        let (rank, size) = self.place(group);
        let size = size as usize;
        let ranks_at_root = if rank == root { size } else { 0 };
        // All know the longest part, so that all make the same rounds; root knows every length.
        let longest = self
            .lowest(group, -(part.len().cast_signed() as i64), wait)?
            .code
            .unsigned_abs() as usize;
        let length = (part.len() as u64).to_le_bytes();
        let lengths = self.gather_round(group, root, &length, &vec![8; ranks_at_root], wait)?;
        let lengths: Vec<_> = lengths
            .as_chunks()
            .0
            .iter()
            .map(|&length| u64::from_le_bytes(length) as usize)
            .collect();
        let mut parts: Vec<_> = lengths
            .iter()
            .map(|&length| Vec::with_capacity(length))
            .collect();
        let share = (ROUND / size).clamp(1, longest.max(1));
        for start in (0..longest).step_by(share) {
            let left = |length: usize| length.saturating_sub(start).min(share);
            let mine = part.get(start..).unwrap_or_default();
            let counts: Vec<_> = lengths.iter().map(|&length| left(length)).collect();
            let round = &mine[..left(part.len())];
            let mut all = &self.gather_round(group, root, round, &counts, wait)?[..];
            for (part, count) in parts.iter_mut().zip(counts) {
                let (piece, rest) = all.split_at(count.min(all.len()));
                part.extend_from_slice(piece);
                all = rest;
            }
        }
        Ok((rank == root).then_some(parts))
    }

    fn free(&mut self, group: Group) {
        if self.places.remove(&group.0).is_some() {
            // A communicator that cannot be freed is no worse than one that was kept.
            let _ = self.plugin.free(group.0);
        }
    }

    fn abort(&mut self, status: i32) -> ! {
        abort_now(status)
    }

    fn finalise(&mut self) -> Result<()> {
        self.places.clear();
        self.plugin.finalise()
    }
}

/// The name and version in a library's version text: its first line up to a comma.
fn short_name(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let name = line.split(',').next().unwrap_or_default();
    name.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_texts_are_cut_to_name_and_version() {
        let cases = [
            (
                "MPICH Version:      5.0.2\nMPICH Release date: …",
                "MPICH Version: 5.0.2",
            ),
            (
                "Open MPI v5.0.11, package: Open MPI, ident: 5.0.11",
                "Open MPI v5.0.11",
            ),
            (
                "Intel(R) MPI Library 2021.9 for Linux* OS\n",
                "Intel(R) MPI Library 2021.9 for Linux* OS",
            ),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(short_name(text), expected);
        }
    }
}
