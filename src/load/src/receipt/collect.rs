//! Making receipts: what the ranks report at the end of the load, and what is added when they leave.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{Bundle, Node, PHASES, RankCounts, RankLoad, Receipt, Spread, VERSION, parts_of};
use crate::{
    Error, Facts, Image, Result,
    error::io_at,
    fill::Filled,
    folder::node_name,
    image::state::Cold,
    patience::Patience,
    plan::Plan,
    transport::{Group, Pace, Transport},
};

/// When the phases of a load began and ended on this rank.
pub(crate) struct Clock {
    start: Instant,
    last: f64,
    log: bool,
    phases: BTreeMap<String, (f64, f64)>,
}

impl Clock {
    /// Starts counting; `log` says each phase on stderr.
    pub(crate) fn start(log: bool) -> Self {
        Self {
            start: Instant::now(),
            last: 0.0,
            log,
            phases: BTreeMap::new(),
        }
    }

    /// Seconds since the start.
    pub(crate) fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// A phase that began when the last one ended has ended.
    pub(crate) fn end(&mut self, phase: &str) {
        self.span(phase, self.last);
    }

    /// A phase that began then has ended.
    pub(crate) fn span(&mut self, phase: &str, began: f64) {
        let now = self.now();
        self.last = now;
        if self.log {
            eprintln!("pybundle: {phase} took {:.3} s", now - began);
        }
        self.phases.insert(phase.to_owned(), (began, now));
    }
}

/// What each rank reports.
#[derive(Serialize, Deserialize)]
struct Part {
    load: RankLoad,
    node: Option<Node>,
}

/// What is to be written when the node's last rank leaves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Draft {
    /// The receipt, or the node's part.
    target: PathBuf,
    /// The whole, on root's node.
    receipt: Option<Receipt>,
    /// This node.
    node: Node,
}

/// Collects the ranks' reports; root writes the receipt, every leader keeps its node's draft.
/// `changed` is the environment, if root knows that it has changed since it was packed. Collective
/// over all ranks, if the plan wants a receipt. A receipt that can't be written is said
/// and no more: the program is what matters.
pub(crate) fn report(
    transport: &mut dyn Transport,
    patience: &mut Patience<'_>,
    plan: &Plan,
    group: Group,
    filled: &Filled,
    changed: Option<PathBuf>,
    clock: &Clock,
) -> Result<()> {
    let Some(target) = &plan.receipt() else {
        return Ok(());
    };
    let world = Group::WORLD;
    let rank = transport.rank(world);
    let leads = transport.rank(group) == 0;
    let count = filled.job.count().values();
    let value = |wanted: &str| {
        count
            .iter()
            .find(|(name, _)| *name == wanted)
            .map_or(0, |(_, value)| *value)
    };
    let part = Part {
        load: RankLoad {
            rank,
            node: node_name(),
            entries: value("load_entries"),
            bytes: value("load_bytes"),
            phases: clock.phases.clone(),
        },
        node: leads.then(|| node(rank, plan, filled)),
    };
    let bytes = serde_json::to_vec(&part).map_err(|error| Error::Internal(error.to_string()))?;
    let parts = patience.collective("all ranks to report", Pace::Sleep, |wait| {
        transport.gather(world, 0, &bytes, wait)
    })?;
    let mut receipt = None;
    if let Some(parts) = parts {
        let parts: Vec<Part> = parts
            .iter()
            .filter_map(|part| serde_json::from_slice(part).ok())
            .collect();
        receipt = Some(Receipt {
            environment_changed: changed,
            ..whole(transport, plan, filled, parts)
        });
    }
    if let Some(node) = part.node {
        let target = if rank == 0 {
            target.clone()
        } else {
            parts_of(target).join(format!("{}-{}.json", node.name, node.leader))
        };
        let draft = Draft {
            target,
            receipt,
            node,
        };
        if rank == 0 {
            draft.write(None);
        }
        filled.job.keep_draft(draft);
    }
    Ok(())
}

fn node(leader: u32, plan: &Plan, filled: &Filled) -> Node {
    let mut node = Node {
        version: VERSION,
        run: plan.run.clone(),
        name: node_name(),
        leader,
        attached: filled.attached,
        fell_back: filled.fell_back.clone(),
        received: if leader == 0 { 0 } else { filled.moved.moved },
        ..Node::default()
    };
    if let Some(image) = &filled.image {
        node.image = Some(image.dir().to_owned());
        node.noexec = !image.is_executable();
        node.look_at(image);
    }
    node.ranks = filled.job.ranks();
    node
}

impl Node {
    /// What the image says of itself now.
    pub(crate) fn look_at(&mut self, image: &Image) {
        self.allocated = image.allocated();
        (self.not_placed, self.not_placed_bytes) = image.not_placed();
        let cold = image.site().state().cold();
        self.cold = String::from(if cold == Cold::Node { "node" } else { "bundle" });
    }
}

fn whole(transport: &dyn Transport, plan: &Plan, filled: &Filled, parts: Vec<Part>) -> Receipt {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let (mut load, mut nodes) = (Vec::new(), Vec::new());
    for part in parts {
        load.push(part.load);
        nodes.extend(part.node);
    }
    let phases = PHASES
        .iter()
        .filter_map(|&phase| Some((phase.to_owned(), spread(phase, &load)?)));
    let sizes = &plan.sizes;
    let direct = filled
        .job
        .count()
        .values()
        .iter()
        .find(|(name, _)| *name == "bytes_read")
        .map_or(0, |(_, bytes)| *bytes);
    Receipt {
        version: VERSION,
        writer: concat!("pybundle ", env!("CARGO_PKG_VERSION")).to_owned(),
        run: plan.run.clone(),
        time: now.map_or(0, |now| now.as_secs()),
        bundle: Bundle {
            identity: plan.identity().to_string(),
            path: plan.bundle().display().to_string(),
            bytes: sizes.file_len,
            hot_bytes: sizes.load_end,
        },
        ranks: load.len() as u32,
        mpi: transport.library().to_owned(),
        thread_level: transport.thread_level().name().to_owned(),
        environment_changed: None,
        facts: None,
        bytes_read: filled.head_len + filled.moved.read + direct,
        bytes_broadcast: filled.moved.moved,
        phases: phases.collect(),
        load,
        nodes,
    }
}

fn spread(phase: &str, load: &[RankLoad]) -> Option<Spread> {
    let seconds = |rank: &RankLoad| rank.phases.get(phase).map(|(began, ended)| ended - began);
    let mut all: Vec<(f64, &str)> = load
        .iter()
        .filter_map(|rank| Some((seconds(rank)?, &*rank.node)))
        .collect();
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (min, max) = (all.first()?, all.last()?);
    Some(Spread {
        min: min.0,
        median: all[(all.len() - 1) / 2].0,
        max: max.0,
        slowest: max.1.to_owned(),
    })
}

impl Draft {
    /// Is it the receipt, not a node's part?
    pub(crate) fn is_whole(&self) -> bool {
        self.receipt.is_some()
    }

    /// Puts in what is known by now.
    pub(crate) fn update(&mut self, image: Option<&Image>, ranks: Vec<RankCounts>, ended: bool) {
        if let Some(image) = image {
            self.node.look_at(image);
        }
        self.node.ranks = ranks;
        self.node.ended = ended;
    }

    /// Writes it, whole or not at all; says so if that fails.
    pub(crate) fn write(&self, facts: Option<&Facts>) {
        let result = match &self.receipt {
            Some(receipt) => {
                let mut receipt = receipt.clone();
                receipt.facts = facts.cloned().or(receipt.facts);
                if let Some(node) = receipt
                    .nodes
                    .iter_mut()
                    .find(|node| node.leader == self.node.leader)
                {
                    *node = self.node.clone();
                }
                write(&self.target, &receipt)
            }
            None => write(&self.target, &self.node),
        };
        if let Err(error) = result {
            eprintln!("pybundle: cannot write the receipt: {error}");
        }
    }
}

fn write(target: &Path, value: &impl Serialize) -> Result<()> {
    let mut bytes =
        serde_json::to_vec_pretty(value).map_err(|error| Error::Internal(error.to_string()))?;
    bytes.push(b'\n');
    if let Some(folder) = target
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs_err::create_dir_all(folder)?;
    }
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:x}", crate::nodes::nonce()));
    let private = target.with_file_name(name);
    fs_err::write(&private, &bytes)?;
    std::fs::rename(&private, target).map_err(|error| io_at("cannot make", target, error))
}
