//! A job whose ranks are threads of one test: real collectives, chosen nodes, failing ranks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use crate::transport::{Error, Flavour, Group, Lowest, Result, ThreadLevel, Transport, Wait};

/// What the ranks of a group have put on the table for their next call.
#[derive(Default)]
struct Table {
    parts: BTreeMap<u32, Vec<u8>>,
    result: Vec<Vec<u8>>,
    taken: u32,
}

struct Room {
    members: Vec<u32>,
    table: Mutex<Table>,
    moved: Condvar,
}

impl Room {
    fn new(members: Vec<u32>) -> Arc<Self> {
        Arc::new(Self {
            members,
            table: Mutex::default(),
            moved: Condvar::new(),
        })
    }

    /// Everybody's part, in rank order, when all have come.
    fn exchange(&self, me: u32, part: Vec<u8>, wait: &mut Wait<'_>) -> Result<Vec<Vec<u8>>> {
        let size = self.members.len() as u32;
        // The last call's result must have been taken by all.
        self.until(wait, |table| table.taken == 0 || table.taken == size)?;
        {
            let mut table = self.table.lock().unwrap();
            if table.taken == size {
                *table = Table::default();
            }
            table.parts.insert(me, part);
            if table.parts.len() as u32 == size {
                table.result = std::mem::take(&mut table.parts).into_values().collect();
            }
            self.moved.notify_all();
        }
        self.until(wait, |table| !table.result.is_empty())?;
        let mut table = self.table.lock().unwrap();
        table.taken += 1;
        let result = table.result.clone();
        if table.taken == size {
            *table = Table::default();
        }
        self.moved.notify_all();
        Ok(result)
    }

    fn until(&self, wait: &mut Wait<'_>, test: impl Fn(&Table) -> bool) -> Result<()> {
        wait.until(|| {
            let table = self.table.lock().unwrap();
            let (table, _) = self
                .moved
                .wait_timeout(table, Duration::from_millis(1))
                .unwrap();
            Ok(test(&table))
        })
    }
}

/// Rooms by members and by how many groups each of them had before.
type Rooms = BTreeMap<(Vec<u32>, usize), Arc<Room>>;

/// One rank's end.
pub(super) struct Threads {
    rank: u32,
    /// The node that each rank is on.
    nodes: Arc<Vec<u32>>,
    rooms: Vec<Arc<Room>>,
    /// Called before each collective call.
    hook: Option<Arc<dyn Fn() + Send + Sync>>,
    /// Groups are made under this: the same members get the same room.
    made: Arc<Mutex<Rooms>>,
}

impl Threads {
    /// One end for each rank; `nodes` says which node it is on.
    pub(super) fn job(nodes: &[u32]) -> Vec<Self> {
        let world = Room::new((0..nodes.len() as u32).collect());
        let nodes = Arc::new(nodes.to_vec());
        let made = Arc::default();
        (0..nodes.len() as u32)
            .map(|rank| Self {
                rank,
                nodes: Arc::clone(&nodes),
                rooms: vec![Arc::clone(&world)],
                hook: None,
                made: Arc::clone(&made),
            })
            .collect()
    }

    /// Runs every rank in a thread of its own; what they give, by rank.
    pub(super) fn run<T: Send>(nodes: &[u32], rank: impl Fn(Self) -> T + Sync) -> Vec<T> {
        thread::scope(|scope| {
            let ends = Self::job(nodes).into_iter();
            let threads: Vec<_> = ends.map(|end| scope.spawn(|| rank(end))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        })
    }

    fn room(&self, group: Group) -> Arc<Room> {
        Arc::clone(&self.rooms[group.0 as usize])
    }

    /// Has `hook` called before each collective call of this rank.
    pub(super) fn hook(&mut self, hook: impl Fn() + Send + Sync + 'static) {
        self.hook = Some(Arc::new(hook));
    }

    fn all(&self, group: Group, part: &[u8], wait: &mut Wait<'_>) -> Result<Vec<Vec<u8>>> {
        if let Some(hook) = &self.hook {
            hook();
        }
        self.room(group)
            .exchange(self.rank(group), part.to_vec(), wait)
    }
}

fn number(bytes: &[u8]) -> i64 {
    i64::from_le_bytes(bytes.try_into().unwrap())
}

impl Transport for Threads {
    fn library(&self) -> &'static str {
        "threads"
    }

    fn flavour(&self) -> Option<Flavour> {
        None
    }

    fn thread_level(&self) -> ThreadLevel {
        ThreadLevel::Multiple
    }

    fn initialised_here(&self) -> bool {
        false
    }

    fn rank(&self, group: Group) -> u32 {
        let members = &self.rooms[group.0 as usize].members;
        members
            .iter()
            .position(|&member| member == self.rank)
            .unwrap() as u32
    }

    fn size(&self, group: Group) -> u32 {
        self.rooms[group.0 as usize].members.len() as u32
    }

    fn join(&mut self, wait: &mut Wait<'_>) -> Result<()> {
        self.barrier(Group::WORLD, wait)
    }

    fn barrier(&mut self, group: Group, wait: &mut Wait<'_>) -> Result<()> {
        self.all(group, &[], wait).map(drop)
    }

    fn split_shared(&mut self, group: Group, wait: &mut Wait<'_>) -> Result<Group> {
        let node = self.nodes[self.rank as usize];
        let key = self.rank(group);
        Ok(self.split(group, Some(node), key, wait)?.unwrap())
    }

    fn split(
        &mut self,
        group: Group,
        color: Option<u32>,
        key: u32,
        wait: &mut Wait<'_>,
    ) -> Result<Option<Group>> {
        let color = color.map_or(-1, i64::from);
        let mine = [color, key.into(), self.rank.into()]
            .map(i64::to_le_bytes)
            .concat();
        let all = self.all(group, &mine, wait)?;
        let all = all
            .iter()
            .map(|part| [0, 8, 16].map(|at| number(&part[at..at + 8])));
        let mut same: Vec<_> = all.filter(|part| part[0] == color).collect();
        same.sort_by_key(|part| (part[1], part[2]));
        if color < 0 {
            return Ok(None);
        }
        let members: Vec<u32> = same
            .iter()
            .map(|part| u32::try_from(part[2]).unwrap())
            .collect();
        let number = self.rooms.len();
        let mut made = self.made.lock().unwrap();
        let known = made.entry((members.clone(), number));
        let room = Arc::clone(known.or_insert_with(|| Room::new(members)));
        drop(made);
        self.rooms.push(room);
        Ok(Some(Group(number as u32)))
    }

    fn broadcast(
        &mut self,
        group: Group,
        root: u32,
        buffer: &mut [u8],
        wait: &mut Wait<'_>,
    ) -> Result<()> {
        let mine = if self.rank(group) == root {
            buffer.to_vec()
        } else {
            Vec::new()
        };
        let all = self.all(group, &mine, wait)?;
        assert_eq!(all[root as usize].len(), buffer.len(), "lengths agree");
        buffer.copy_from_slice(&all[root as usize]);
        Ok(())
    }

    fn lowest(&mut self, group: Group, code: i64, wait: &mut Wait<'_>) -> Result<Lowest> {
        let all = self.all(group, &code.to_le_bytes(), wait)?;
        let codes = all.iter().map(|part| number(part)).zip(0..);
        let (code, rank) = codes.min().unwrap();
        Ok(Lowest { code, rank })
    }

    fn gather(
        &mut self,
        group: Group,
        root: u32,
        part: &[u8],
        wait: &mut Wait<'_>,
    ) -> Result<Option<Vec<Vec<u8>>>> {
        let all = self.all(group, part, wait)?;
        Ok((self.rank(group) == root).then_some(all))
    }

    fn free(&mut self, _: Group) {}

    fn abort(&mut self, status: i32) -> ! {
        panic!("aborted with {status}")
    }

    fn finalise(&mut self) -> Result<()> {
        Ok::<(), Error>(())
    }
}
