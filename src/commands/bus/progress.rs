//! How far a backup or a restore is: a bar on a terminal, plain lines otherwise, both on standard error.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar};

use crate::commands::bar;

/// How often a line is written.
const EVERY: Duration = Duration::from_secs(10);

/// The progress of one stream after the other.
pub(super) struct Bar {
    /// None: lines.
    bar: Option<ProgressBar>,
    quiet: bool,
    next_line: Instant,
}

impl Bar {
    /// With `quiet`, nothing is shown.
    pub(super) fn new(quiet: bool) -> Self {
        let on_terminal = !quiet && std::io::stderr().is_terminal();
        Self {
            bar: on_terminal.then(|| ProgressBar::new(0).with_style(bar::named())),
            quiet,
            next_line: Instant::now() + EVERY,
        }
    }

    /// So many bytes, of a number that nobody knows.
    pub(super) fn bytes(&mut self, stream: &str, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{stream}: {}", HumanBytes(bytes)));
            bar.tick();
        } else {
            self.line(|| format!("{stream}: {} written", HumanBytes(bytes)));
        }
    }

    /// So much of a whole.
    pub(super) fn part(&mut self, what: &str, stream: &str, done: u64, of: u64) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{what} {stream}"));
            bar.set_length(of.max(done));
            bar.set_position(done);
        } else {
            self.line(|| format!("{what} {stream}: {done} of {of}"));
        }
    }

    fn line(&mut self, text: impl FnOnce() -> String) {
        if !self.quiet && Instant::now() >= self.next_line {
            self.next_line = Instant::now() + EVERY;
            eprintln!("{}", text());
        }
    }

    pub(super) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
