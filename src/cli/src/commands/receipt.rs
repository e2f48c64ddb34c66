//! `pybundle receipt FILE`: what a run did, for people.

use std::io::{self, Write};

use anyhow::{Context, Result};
use pybundle_load::Receipt;

use crate::arguments;

pub(crate) fn run(options: &arguments::Receipt) -> Result<()> {
    let receipt = Receipt::read(&options.receipt)?;
    match &options.html {
        None => io::stdout().write_all(receipt.text().as_bytes())?,
        Some(page) => std::fs::write(page, receipt.html())
            .with_context(|| format!("cannot write `{}`", page.display()))?,
    }
    Ok(())
}
