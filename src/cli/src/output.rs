//! What people see: messages and progress on standard error, data on standard output.

use std::{
    io::{self, IsTerminal, Write},
    sync::Mutex,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use pybundle_load::image::Cleaned;

/// Prints an error with its causes, then its hint if it has one.
pub(crate) fn error(error: &anyhow::Error) {
    let _ = writeln!(io::stderr(), "error: {error:#}");
}

/// Did the reader of our output go away?
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// A line about a node image.
pub(crate) fn image(out: &mut impl Write, found: &Cleaned, verdict: &str) -> io::Result<()> {
    let (dir, size) = (found.dir.display(), bytes(found.bytes));
    writeln!(out, "{dir} ({size}): {verdict}")
}

/// A progress bar; on anything but a terminal it prints nothing.
pub(crate) struct Bar {
    bar: ProgressBar,
    phase: Mutex<&'static str>,
}

impl Bar {
    pub(crate) fn new() -> Self {
        let bar = if io::stderr().is_terminal() {
            ProgressBar::new(0)
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("{msg:10} [{bar:40}] {percent:>3} % {eta}")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self {
            bar,
            phase: Mutex::new(""),
        }
    }

    /// `done` of `total` of a phase, in any unit.
    pub(crate) fn set(&self, phase: &'static str, done: u64, total: u64) {
        if let Ok(mut current) = self.phase.lock()
            && *current != phase
        {
            *current = phase;
            self.bar.reset_eta();
            self.bar.set_message(phase);
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Bytes as people read them: `12.3 MB`.
pub(crate) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" {
                format!("{count} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_are_rounded_to_a_unit() {
        assert_eq!(super::bytes(999), "999 B");
        assert_eq!(super::bytes(1_000), "1.0 kB");
        assert_eq!(super::bytes(138_400_000), "138.4 MB");
        assert_eq!(super::bytes(2_500_000_000_000), "2.5 TB");
    }
}
