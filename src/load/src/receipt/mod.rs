//! The report of a run: what was read, moved, decoded, served and missed.
//!
//! Root's node writes `FILE` when the load ends, so that there is one even if the program dies, and
//! again when the last of its ranks leaves; the last rank of every other node writes a part into
//! `FILE.d/`. [`Receipt::read`] puts them together.

mod collect;
mod html;
mod text;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub(crate) use collect::{Clock, Draft, report};

use crate::{Error, Facts, Result};

/// Changes when a field changes its meaning; a newer one is refused by name.
pub const VERSION: u32 = 1;

/// The phases of a load, in order.
pub const PHASES: [&str; 6] = ["join", "plan", "attach", "transfer", "decode", "agree"];

/// A run's report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// Version of this form.
    pub version: u32,
    /// The program that wrote it, as in `pybundle 0.1.0`.
    pub writer: String,
    /// Tells this run from others with a receipt of the same name.
    pub run: String,
    /// When the load began, in seconds since 1970.
    pub time: u64,
    /// What was loaded.
    pub bundle: Bundle,
    /// The environment, where root saw that it has changed since it was packed. Nobody looks where
    /// an image on root's node knew the bundle.
    #[serde(default)]
    pub environment_changed: Option<PathBuf>,
    /// Number of ranks.
    pub ranks: u32,
    /// The MPI library's version text; `none` without MPI.
    pub mpi: String,
    /// The thread level that MPI granted.
    pub thread_level: String,
    /// What the program's side knows.
    pub facts: Option<Facts>,
    /// Bytes that root read from the bundle while loading, index included.
    pub bytes_read: u64,
    /// Bytes of the broadcast, once.
    pub bytes_broadcast: u64,
    /// Seconds of each phase.
    pub phases: BTreeMap<String, Spread>,
    /// What each rank did while loading, by rank.
    pub load: Vec<RankLoad>,
    /// Each node, root's first.
    pub nodes: Vec<Node>,
}

/// What was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// SHA-256 of its index.
    pub identity: String,
    /// Its path on root.
    pub path: String,
    /// Its bytes.
    pub bytes: u64,
    /// Those up to the last one needed before imports begin.
    pub hot_bytes: u64,
}

/// A number over all ranks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Lowest.
    pub min: f64,
    /// Half of the ranks have no more.
    pub median: f64,
    /// Highest.
    pub max: f64,
    /// The node of a rank that has it.
    pub slowest: String,
}

/// What one rank did while loading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankLoad {
    /// The rank.
    pub rank: u32,
    /// Its node's name.
    pub node: String,
    /// Entries that it decoded.
    pub entries: u64,
    /// The bytes of their contents.
    pub bytes: u64,
    /// Start and end of each phase, in seconds since this rank began.
    pub phases: BTreeMap<String, (f64, f64)>,
}

/// What happened on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Version of this form, for parts that lie in a file of their own.
    pub version: u32,
    /// The run that it belongs to.
    pub run: String,
    /// Its name.
    pub name: String,
    /// The lowest rank on it.
    pub leader: u32,
    /// The image's folder.
    pub image: Option<PathBuf>,
    /// A complete image was there before.
    pub attached: bool,
    /// The image's folder is mounted `noexec`: each process opens extension modules from memory.
    #[serde(default)]
    pub noexec: bool,
    /// Why the node ran from the environment's own files.
    pub fell_back: Option<String>,
    /// Bytes that its leader received.
    pub received: u64,
    /// `node` or `bundle`: where cold entries are read from.
    pub cold: String,
    /// Allocated bytes of the image's folder: at the end of the load, later when the last rank left.
    pub allocated: u64,
    /// Files of the bundle that were never placed.
    pub not_placed: u64,
    /// Their bytes.
    pub not_placed_bytes: u64,
    /// All ranks of the node have left: the counts are final.
    pub ended: bool,
    /// Its ranks.
    pub ranks: Vec<RankCounts>,
}

/// What one rank and its children did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankCounts {
    /// The rank.
    pub rank: u32,
    /// Counters by name.
    pub counts: BTreeMap<String, u64>,
    /// Paths that were looked for on the real file system, as far as there was room for them.
    pub fell_through: Vec<String>,
}

impl Receipt {
    /// Reads a receipt and the parts beside it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Receipt`].
    pub fn read(path: &Path) -> Result<Self> {
        let mut receipt: Self = parse(path)?;
        let parts = match fs_err::read_dir(parts_of(path)) {
            Ok(parts) => parts,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(receipt),
            Err(error) => return Err(error.into()),
        };
        for part in parts {
            let path = part?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let part: Node = parse(&path)?;
            // Of an earlier run, on other nodes.
            if part.run != receipt.run {
                continue;
            }
            let known = receipt
                .nodes
                .iter_mut()
                .find(|node| node.leader == part.leader);
            match known {
                Some(node) => *node = part,
                None => receipt.nodes.push(part),
            }
        }
        receipt.nodes.sort_by_key(|node| node.leader);
        Ok(receipt)
    }

    /// A counter over all ranks.
    pub fn total(&self, counter: &str) -> u64 {
        let ranks = self.nodes.iter().flat_map(|node| &node.ranks);
        ranks.filter_map(|rank| rank.counts.get(counter)).sum()
    }

    /// A table for people.
    pub fn text(&self) -> String {
        text::render(self)
    }

    /// A page with a timeline.
    pub fn html(&self) -> String {
        html::render(self)
    }
}

/// The folder for other nodes' parts.
fn parts_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".d");
    name.into()
}

/// Reads JSON that says its version.
fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs_err::read(path)?;
    let refuse = |why: String| Error::Receipt {
        path: path.to_owned(),
        why,
    };
    let value: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(VERSION) => {}
        Some(version) => {
            return Err(refuse(format!(
                "version: expected {VERSION}, got {version}"
            )));
        }
        None => return Err(refuse("it has no version".to_owned())),
    }
    serde_json::from_value(value).map_err(|error| refuse(error.to_string()))
}
