//! What the relay and the projector's workers alike report about themselves: what they do now, and what is
//! wrong.

use std::fmt;
use std::time::Instant;

/// Where a relay or a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// Between two sessions, or on the way to the first.
    #[default]
    Starting,
    /// Another one has the lock.
    Standby,
    /// It has the lock.
    Active,
    /// It was asked to stop.
    Stopping,
}

/// Since when one is where it is, and since when something is wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct Since {
    /// Since it came to this stage.
    pub stage: Option<Instant>,
    /// Since something is wrong, however often what is wrong changed; none where nothing is.
    pub problem: Option<Instant>,
}

impl Since {
    /// After a change.
    pub fn follow(&mut self, before: Stage, now: Stage, problem: bool) {
        if before != now || self.stage.is_none() {
            self.stage = Some(Instant::now());
        }
        self.problem = match problem {
            true => self.problem.or_else(|| Some(Instant::now())),
            false => None,
        };
    }
}

/// An error as it is shown.
#[derive(Debug, Clone)]
pub struct Problem {
    /// What happened, and what to do.
    pub text: String,
    /// Whether a person has to act.
    pub halted: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.halted { "halted: " } else { "" };
        write!(f, "{what}{}", self.text)
    }
}
