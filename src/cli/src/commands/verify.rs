//! `pybundle verify FILE`: every byte of a bundle.

use std::io::{self, Write};

use anyhow::{Context, Result};
use pybundle_bundle::reader;

use crate::{
    arguments::Verify,
    output::{Bar, bytes},
};

pub(crate) fn run(options: &Verify) -> Result<()> {
    let bar = Bar::new();
    let total = std::fs::metadata(&options.bundle).map_or(0, |data| data.len());
    let verdict = reader::verify(&options.bundle, |done| bar.set("verify", done, total));
    bar.finish();
    let verdict =
        verdict.with_context(|| format!("bundle is refused: `{}`", options.bundle.display()))?;
    writeln!(
        io::stdout(),
        "ok: {} entries, {} in {}, identity {}",
        verdict.entries,
        bytes(verdict.decoded),
        bytes(verdict.file_len),
        verdict.identity
    )?;
    Ok(())
}
