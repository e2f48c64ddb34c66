//! `pybundle unpack FILE DIR`: the environment back, as ordinary files.

use std::io::{self, Write};

use anyhow::{Result, anyhow};
use nix::sys::{
    signal::{SigSet, Signal, raise},
    signalfd::{SfdFlags, SignalFd},
};
use pybundle_load::{Error, Interrupted, unpack, unpack::Unpacked};

use crate::{
    arguments::Unpack,
    output::{Bar, bytes},
};

pub(crate) fn run(options: &Unpack) -> Result<()> {
    let (bundle, folder) = (&options.bundle, &options.folder);
    let ends = Ends::block()?;
    let bar = Bar::new();
    let mut ended = None;
    let unpacked = unpack(bundle, folder, &mut |done, total| {
        bar.set("unpack", done, total);
        ended = ends.arrived();
        ended.map_or(Ok(()), |_| Err(Interrupted))
    });
    bar.finish();
    ends.free()?;
    if let Some(signal) = ended {
        // As it would have ended us, had there been nothing to remove.
        raise(signal)?;
    }
    let unpacked = unpacked.map_err(|error| match error {
        Error::Bundle(_) => {
            anyhow!(error).context(format!("bundle is refused: `{}`", bundle.display()))
        }
        error => error.into(),
    })?;
    for_people(&unpacked, &mut io::stderr().lock())?;
    Ok(())
}

fn for_people(unpacked: &Unpacked, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "unpacked   {} files with {}, {} links, bytecode of {} modules",
        unpacked.files,
        bytes(unpacked.bytes),
        unpacked.links,
        unpacked.modules
    )?;
    writeln!(out, "folder     {}", unpacked.folder.display())
}

/// Signals that end a program, kept from ending this one before it has removed what it made.
struct Ends {
    signals: SigSet,
    arriving: SignalFd,
}

impl Ends {
    /// Before there are threads, which take over what is blocked.
    fn block() -> Result<Self> {
        let ignored = ignored();
        let ends = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
        let ends = ends.into_iter();
        let signals: SigSet = ends
            .filter(|&end| ignored >> (end as i32 - 1) & 1 == 0)
            .collect();
        signals.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let arriving = SignalFd::with_flags(&signals, flags)?;
        Ok(Self { signals, arriving })
    }

    fn arrived(&self) -> Option<Signal> {
        let found = self.arriving.read_signal().ok().flatten()?;
        Signal::try_from(found.ssi_signo.cast_signed()).ok()
    }

    fn free(&self) -> Result<()> {
        Ok(self.signals.thread_unblock()?)
    }
}

/// The signals that whoever started us wants ignored, as `nohup` does: bit 0 is number 1.
fn ignored() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
        .unwrap_or(0)
}
