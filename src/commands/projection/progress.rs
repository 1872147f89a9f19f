//! What a rebuild shows while it works: a bar on a terminal, a line now and then otherwise, both on
//! standard error.

use crate::commands::bar;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use artstore_projectors::rebuild::Step;
use indicatif::ProgressBar;

/// How often a line is written where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);

/// When the first one is written.
const FIRST: Duration = Duration::from_secs(1);

/// The progress of a rebuild.
pub(super) struct RebuildDisplay {
    bar: Option<ProgressBar>,
    quiet: bool,
    /// What is being done, since when, and how much was done then.
    stage: String,
    begun: (Instant, u64),
    next_line: Instant,
    /// Events that were applied in all.
    applied: u64,
    filling: u64,
}

impl RebuildDisplay {
    /// With `quiet`, nothing is shown.
    pub(super) fn new(quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal())
            .then(|| ProgressBar::new(0).with_style(bar::named()));
        Self {
            bar,
            quiet,
            stage: String::new(),
            begun: (Instant::now(), 0),
            next_line: Instant::now() + FIRST,
            applied: 0,
            filling: 0,
        }
    }

    /// Events that were applied in all.
    pub(super) fn applied(&self) -> u64 {
        self.applied + self.filling
    }

    pub(super) fn show(&mut self, step: &Step) {
        match step {
            Step::Filling {
                stream,
                applied,
                total,
            } => {
                // A new count has begun.
                if *applied < self.filling {
                    self.applied += self.filling;
                }
                self.filling = *applied;
                self.count(&format!("applying {stream}"), *applied, Some(*total));
            }
            Step::Indexing { index, number, of } => {
                self.say(&format!("index {number} of {of}: {index}"));
            }
            Step::Comparing { table, rows } => {
                self.count(&format!("comparing {table}"), *rows, None);
            }
            Step::Copying { table } => {
                self.count(
                    &format!("copying the product's own rows of {table}"),
                    0,
                    None,
                );
            }
            Step::Waiting { attempt, holders } => {
                let holders = match holders.is_empty() {
                    true => "it is free again".to_owned(),
                    false => holders.join("; "),
                };
                self.line(&format!(
                    "try {attempt}: the live tables are in use: {holders}"
                ));
            }
        }
    }

    fn count(&mut self, stage: &str, done: u64, total: Option<u64>) {
        let is_new = self.stage != stage;
        if is_new {
            stage.clone_into(&mut self.stage);
            self.begun = (Instant::now(), done);
        }
        if let Some(bar) = &self.bar {
            if is_new {
                bar.set_message(stage.to_owned());
                bar.reset_eta();
            }
            bar.set_length(total.unwrap_or(done));
            bar.set_position(done);
        } else if !self.quiet && Instant::now() >= self.next_line {
            self.next_line = Instant::now() + EVERY;
            let (begun, before) = self.begun;
            let so_far = done - before.min(done);
            eprintln!("{}", line(stage, done, total, so_far, begun.elapsed()));
        }
    }

    /// What is being done, where there is nothing to count.
    fn say(&mut self, stage: &str) {
        stage.clone_into(&mut self.stage);
        match &self.bar {
            Some(bar) => bar.set_message(stage.to_owned()),
            None if !self.quiet && Instant::now() >= self.next_line => {
                self.next_line = Instant::now() + EVERY;
                eprintln!("{stage}");
            }
            None => {}
        }
    }

    fn line(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None if !self.quiet => eprintln!("{text}"),
            None => {}
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line without a terminal: `so_far` were done in this time.
fn line(stage: &str, done: u64, total: Option<u64>, so_far: u64, time: Duration) -> String {
    let Some(total) = total else {
        return format!("{stage}: {done}");
    };
    let rate = so_far as f64 / time.as_secs_f64().max(0.001);
    let left = total.saturating_sub(done) as f64 / rate.max(1.0);
    format!("{stage}: {done} of {total} events, {rate:.0}/s, {left:.0} s left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_rate_and_the_time_that_is_left() {
        let ten = Duration::from_secs(10);
        assert_eq!(
            line("applying s", 6_000, Some(10_000), 5_000, ten),
            "applying s: 6000 of 10000 events, 500/s, 8 s left"
        );
        assert_eq!(line("comparing t", 7, None, 7, ten), "comparing t: 7");
        // Nothing yet, and no time.
        let text = line("applying s", 0, Some(10), 0, Duration::ZERO);
        assert_eq!(text, "applying s: 0 of 10 events, 0/s, 10 s left");
    }
}
