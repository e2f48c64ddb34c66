//! The sequence of collective calls of a load.

use std::sync::Arc;

use pybundle_bundle::Manifest;

use crate::{Image, Interrupted, Job, Result, Settings, transport::Transport};

/// Called about every 100 ms while the load waits, so that signals get through.
pub type Tick<'a> = &'a mut dyn FnMut() -> Result<(), Interrupted>;

/// What a load gives to each rank.
#[derive(Debug)]
pub struct Loaded {
    /// The node's image; `None` exactly if the node fell back.
    pub image: Option<Arc<Image>>,
    /// The bundle's manifest.
    pub manifest: Manifest,
    /// Where this rank counts.
    pub job: Arc<Job>,
    /// Why this node runs from the environment's own files.
    pub fell_back: Option<String>,
}

/// Loads a bundle; called by every rank of the job. Every rank gets `Ok`, or every rank gets an
/// error with the same text.
///
/// # Errors
/// See [`crate::Error::speaks`] for who prints, [`crate::Error::must_abort`] for what else to do.
pub fn load(settings: &Settings, transport: &mut dyn Transport, tick: Tick<'_>) -> Result<Loaded> {
    let _ = (settings, transport, tick);
    todo!()
}
