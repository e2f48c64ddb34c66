//! `pybundle clean`: node images that nobody holds.

use std::io;

use anyhow::Result;
use pybundle_load::{Settings, image};

use crate::{arguments::Clean, output};

pub(crate) fn run(options: &Clean) -> Result<()> {
    let settings = Settings::from_environment()?;
    let mut out = io::stdout().lock();
    for found in image::clean(settings.node_dir.as_deref(), options.dry_run)? {
        let verdict = match (found.held, options.dry_run) {
            (true, _) => "in use",
            (false, true) => "would be removed",
            (false, false) => "removed",
        };
        output::image(&mut out, &found, verdict)?;
    }
    Ok(())
}
