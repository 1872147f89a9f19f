//! What the relay and the projector's workers tell of themselves alike: where they are, and what is
//! wrong.

use std::fmt;

/// Where a relay or a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// Between two sessions, or on the way to the first.
    #[default]
    Starting,
    /// Another one has the lock.
    StandingBy,
    /// It has the lock.
    Active,
    /// It was asked to stop.
    Stopping,
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
