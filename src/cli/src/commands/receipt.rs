//! `pybundle receipt FILE`: what a run did, for people.

use std::io::{self, Write};

use anyhow::{Context, Result};
use pybundle_load::receipt;

use crate::arguments::Receipt;

pub(crate) fn run(options: &Receipt) -> Result<()> {
    match &options.html {
        None => io::stdout().write_all(receipt::text(&options.receipt)?.as_bytes())?,
        Some(page) => std::fs::write(page, receipt::html(&options.receipt)?)
            .with_context(|| format!("cannot write `{}`", page.display()))?,
    }
    Ok(())
}
