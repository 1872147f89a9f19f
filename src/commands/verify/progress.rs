//! How far a check is: a bar on a terminal, plain lines otherwise, both on standard error.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use artstore_schemas::source::Source;
use indicatif::ProgressBar;

use crate::commands::bar;
use artstore_verification::cache;
use artstore_verification::pass::Pass;
use artstore_verification::source::Fixed;

/// How often a line is written.
const EVERY: Duration = Duration::from_secs(10);

/// The progress of one source.
pub(crate) struct VerifyDisplay {
    source: String,
    /// None: lines.
    bar: Option<ProgressBar>,
    quiet: bool,
    /// Where it began, and when.
    begun: (u64, Instant),
    next_line: Instant,
}

impl VerifyDisplay {
    /// From a sequence on; with `quiet`, nothing is shown.
    pub(crate) fn new(source: &Source, behind: u64, quiet: bool) -> Self {
        if behind > 0 && !quiet {
            eprintln!("{source}: continues after message {behind}");
        }
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(0).with_style(bar::named());
            bar.set_message(source.to_string());
            bar.set_position(behind);
            bar.reset_eta();
            bar
        });
        Self {
            source: source.to_string(),
            bar,
            quiet,
            begun: (behind, Instant::now()),
            next_line: Instant::now() + EVERY,
        }
    }

    pub(crate) fn show(&mut self, pass: &Pass, fixed: Fixed) {
        let (at, of) = (pass.state.links.last, fixed.sequence);
        if let Some(bar) = &self.bar {
            bar.set_length(of.max(at));
            bar.set_position(at);
        } else if !self.quiet && Instant::now() >= self.next_line {
            self.next_line = Instant::now() + EVERY;
            let done = at.saturating_sub(self.begun.0);
            let rate = done as f64 / self.begun.1.elapsed().as_secs_f64();
            let left = of.saturating_sub(at) as f64 / rate.max(1.0);
            if at < of {
                eprintln!(
                    "{}: {at} of {of} messages, {rate:.0}/s, {left:.0} s left",
                    self.source
                );
            } else {
                let awaited = pass.state.matching.awaited().len();
                eprintln!(
                    "{}: all {of} messages read; waiting for the relay ({awaited} rows below \
                     position {}, and those above)",
                    self.source, pass.state.links.chain.high_water_mark
                );
            }
        }
    }

    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The progress of the read model.
pub(super) struct CacheDisplay {
    bar: Option<ProgressBar>,
    quiet: bool,
    next_line: Instant,
}

impl CacheDisplay {
    /// With `quiet`, nothing is shown.
    pub(super) fn new(quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal())
            .then(|| ProgressBar::new(0).with_style(bar::named()));
        Self {
            bar,
            quiet,
            next_line: Instant::now() + EVERY,
        }
    }

    pub(super) fn show(&mut self, now: cache::CacheCheckProgress) {
        let stage = match now.stage {
            cache::Stage::Compare => "cache: rows",
            cache::Stage::Provenance => "cache: events",
            cache::Stage::Confirm => "cache: one by one",
            cache::Stage::History => "cache: history",
        };
        if let Some(bar) = &self.bar {
            if bar.message() != stage {
                bar.reset();
                bar.set_message(stage);
            }
            bar.set_length(now.total);
            bar.set_position(now.done);
        } else if !self.quiet && Instant::now() >= self.next_line {
            self.next_line = Instant::now() + EVERY;
            eprintln!("{stage}: {} of {}", now.done, now.total);
        }
    }

    pub(super) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
