//! Which ranks share a node image, and which image that is.
//!
//! MPI tells which ranks share memory; whether they see the same folder is found out: the first
//! rank makes the job's file in the image, the others open it and compare. Those that can't see it
//! (each rank in a container of its own) form a group of their own and start over. Host names
//! decide nothing.

use std::{
    ffi::OsString,
    hash::{BuildHasher, Hasher, RandomState},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Job, Result, Settings,
    folder::{self, Home},
    image::{
        site::{CODE, Site},
        state::Cold,
    },
    patience::Patience,
    plan::{Keep, Plan},
    room::Room,
    transport::{Group, Pace, Transport},
};

/// Bytes of a leader's note to its group.
const NOTE: usize = 8 << 10;

/// A number that no other job or node has.
pub(crate) fn nonce() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    hasher.write_u128(now.map_or(0, |now| now.as_nanos()));
    hasher.finish()
}

/// What a node does without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wants {
    /// Index and hot entries.
    pub(crate) hot: bool,
    /// Cold entries' compressed bytes.
    pub(crate) cold: bool,
}

/// A node's image, as one of its ranks holds it.
#[derive(Debug)]
pub(crate) struct Held {
    /// Its folder, locked.
    pub(crate) site: Site,
    /// This rank's counters.
    pub(crate) job: Job,
    /// What the leader finds missing; nothing on other ranks.
    pub(crate) wants: Wants,
}

/// Where a rank has its place.
#[derive(Debug)]
pub(crate) struct Seat {
    /// The ranks that share the image.
    pub(crate) group: Group,
    /// The image; the reason if the node can't hold it; `None` if it failed for good.
    pub(crate) held: Option<Result<Held, String>>,
}

#[derive(Serialize, Deserialize)]
enum Note {
    Image { dir: Vec<u8>, nonce: u64 },
    FellBack(String),
    Failed,
}

impl Note {
    fn to_bytes(&self) -> Result<[u8; NOTE]> {
        let mut bytes = [0; NOTE];
        let json = serde_json::to_vec(self).map_err(|error| Error::Internal(error.to_string()))?;
        let room = bytes.get_mut(4..4 + json.len());
        let room = room.ok_or_else(|| Error::Internal("a leader's note is too long".to_owned()))?;
        room.copy_from_slice(&json);
        bytes[..4].copy_from_slice(&(json.len() as u32).to_le_bytes());
        Ok(bytes)
    }

    fn from_bytes(bytes: &[u8; NOTE]) -> Self {
        let len = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        let json = bytes.get(4..4 + len).unwrap_or_default();
        serde_json::from_slice(json).unwrap_or(Self::Failed)
    }
}

/// Finds or makes the image of this rank's node. Collective over `shared`.
///
/// # Errors
/// The transport's. What is wrong with the node itself goes to `first`.
pub(crate) fn seat(
    transport: &mut dyn Transport,
    patience: &mut Patience<'_>,
    shared: Group,
    plan: &Plan,
    settings: &Settings,
    first: &mut Option<Error>,
) -> Result<Seat> {
    let mut group = shared;
    loop {
        let leads = transport.rank(group) == 0;
        let mut held = None;
        let mut note = Note::Failed.to_bytes()?;
        if leads && first.is_none() {
            let slots = transport.size(group) as usize;
            let alone = transport.size(Group::WORLD) == 1;
            let (said, mine) = match lead(plan, settings, slots, alone) {
                Ok(held) => {
                    let dir = held.site.dir().as_os_str().as_bytes().to_vec();
                    let nonce = held.job.nonce();
                    (Note::Image { dir, nonce }, Some(Ok(held)))
                }
                Err(error) if error.is_local() && !settings.strict && plan.original().is_some() => {
                    let mut text = error.to_string();
                    crate::error::shorten(&mut text, NOTE / 4);
                    (Note::FellBack(text.clone()), Some(Err(text)))
                }
                Err(error) => {
                    first.get_or_insert(error);
                    (Note::Failed, None)
                }
            };
            note = said.to_bytes()?;
            held = mine;
        }
        patience.collective("the leader of the node", Pace::Sleep, |wait| {
            transport.broadcast(group, 0, &mut note, wait)
        })?;
        let mut seen = true;
        if !leads {
            match Note::from_bytes(&note) {
                Note::Image { dir, nonce } => {
                    let dir = PathBuf::from(OsString::from_vec(dir));
                    match join(&dir, nonce) {
                        Ok(mine) => held = Some(Ok(mine)),
                        Err(_) => seen = false,
                    }
                }
                Note::FellBack(text) => held = Some(Err(text)),
                Note::Failed => {}
            }
        }
        let key = transport.rank(group);
        let color = Some(u32::from(!seen));
        let part = patience.collective("the ranks of the node", Pace::Sleep, |wait| {
            transport.split(group, color, key, wait)
        })?;
        let part = part.ok_or_else(|| Error::Internal("a split gave no group".to_owned()))?;
        if group != shared {
            transport.free(group);
        }
        group = part;
        if seen {
            if let Some(Ok(held)) = &mut held {
                let slot = transport.rank(group) as usize;
                held.job.settle(slot, transport.size(group) as usize);
                held.job.set_rank(transport.rank(Group::WORLD));
            }
            return Ok(Seat { group, held });
        }
    }
}

fn join(dir: &Path, nonce: u64) -> Result<Held> {
    let site = Site::attach(dir)?;
    let job = Job::open(dir, nonce, 0)?;
    let wants = Wants::default();
    Ok(Held { site, job, wants })
}

/// The leader's part: the folder that the user has named, else the first that has the image already,
/// else the first that can hold it. Folders from which nothing can be executed come last: extension
/// modules are then opened from a copy in each process's memory.
fn lead(plan: &Plan, settings: &Settings, slots: usize, alone: bool) -> Result<Held> {
    let identity = plan.identity();
    let mut folders = folder::of(settings);
    let has_image = |folder: &PathBuf| {
        Home::find(folder).is_some_and(|home| home.path().join(identity.short()).exists())
    };
    folders.sort_by_cached_key(|folder| {
        let named = settings.node_dir.as_ref() == Some(folder);
        (!folder::is_executable(folder), !named, !has_image(folder))
    });
    let mut reasons = Vec::new();
    for folder in folders {
        match lead_in(&folder, plan, settings, slots, alone) {
            Ok(held) => return Ok(held),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    Err(Error::NoFolder {
        node: folder::node_name(),
        reasons: reasons.join("; "),
    })
}

fn lead_in(
    folder: &Path,
    plan: &Plan,
    settings: &Settings,
    slots: usize,
    alone: bool,
) -> Result<Held> {
    let home = Home::make(folder)?;
    let sizes = &plan.sizes;
    let prefix = home.path().join(plan.identity().short()).join("tree/");
    let prefix_len = prefix.as_os_str().len();
    let room = Room::of(home.path())?;
    // A process that is alone has the bundle at hand: its cold bytes need not be copied.
    let copies = !alone || settings.keep;
    let wished = if settings.all_files {
        Keep::All
    } else if copies && sizes.cold_fits(&room) {
        Keep::Cold
    } else {
        Keep::Bundle
    };
    let fits = || match room.lacks(sizes.need(prefix_len, wished)) {
        None => Ok(()),
        Some(why) => Err(Error::Image {
            path: home.path().to_owned(),
            why,
        }),
    };
    let site = Site::join_or_create(&home, plan.identity(), &plan.source(), fits)?;
    let state = site.state();
    let cold = state.cold() != Cold::Node && wished != Keep::Bundle;
    let wants = Wants {
        // A process that is alone, and copies nothing, has the bundle at hand.
        hot: state.lacks_hot(alone && !cold),
        cold,
    };
    if wants.hot && state.is_complete() {
        // What a process that was alone had no need of.
        fits()?;
    }
    debug_assert!(!state.is_complete() || site.dir().join(CODE).exists());
    let job = Job::create(&site, nonce(), slots)?;
    if settings.keep {
        site.keep(settings.keep_for)?;
    }
    Ok(Held { site, job, wants })
}
