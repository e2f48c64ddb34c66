//! Bundle to node image: everything between the file that `pack` wrote and the first import.
//!
//! [`load()`] is called by every rank of a job. Root reads the bundle, the leaders of the nodes
//! receive it, all ranks of a node verify and decode their share into one [`Image`], and all ranks
//! agree on the outcome. From then on nothing is collective: an image serves code from its mapping
//! and places files on demand. A child process attaches to the image of its parent with
//! [`Image::attach`], without MPI.
//!
//! | module | holds |
//! | --- | --- |
//! | [`environment`] | all `PYBUNDLE_*` variables; [`Settings`] |
//! | [`transport`] | how ranks talk: one process, or MPI through a plug-in |
//! | [`launch`], [`join`], [`failure`] | whose child a process is, its job, and how a start fails |
//! | [`package`] | where the installation lies, for programs that are no Python |
//! | [`mod@load`] | the sequence of collective calls, in one function |
//! | `plan`, `nodes`, `folder`, `mounts`, `room` | what to load, which ranks share an image, where it lies |
//! | `stale` | has the environment changed since it was packed? |
//! | `fill`, `way`, `read`, `broadcast`, `store`, `decode` | bytes: read by root, received by leaders, decoded by all |
//! | [`mod@unpack`] | bundle to ordinary environment, by one process |
//! | [`image`] | what lies on a node: creating, attaching, placing, removing |
//! | [`job`] | what one rank counts while its program runs |
//! | [`receipt`] | the report of a run |

mod agree;
mod broadcast;
mod counters;
mod decode;
pub mod environment;
pub mod error;
pub mod failure;
mod fill;
mod folder;
pub mod image;
pub mod job;
pub mod join;
mod known;
pub mod launch;
pub mod load;
mod mounts;
mod nodes;
pub mod package;
mod patience;
mod plan;
mod read;
pub mod receipt;
mod room;
#[cfg(test)]
mod sample;
mod stale;
mod store;
pub mod transport;
pub mod unpack;
mod way;

pub use counters::Counters;
pub use environment::Settings;
pub use error::{Error, Interrupted, Result};
pub use image::{Image, Mapping};
pub use job::{Facts, Job, LeftOut, ProgramFiles};
pub use load::{Loaded, Tick, load};
pub use receipt::Receipt;
pub use unpack::unpack;
