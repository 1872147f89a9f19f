//! One difference from version 1: what it means, and what repairs it. Found by
//! [`crate::compare`], repaired by [`crate::adopt`].

use std::fmt;

use crate::repair::Statement;

/// Whether a difference matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// The tables can't be adopted before somebody changed this.
    Blocks,
    /// Adoption makes it as version 1 has it.
    Repaired,
    /// It stays as it is.
    Harmless,
}

impl Effect {
    /// The word that people read.
    pub fn word(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Repaired => "repair",
            Self::Harmless => "harmless",
        }
    }
}

/// One thing that is not as version 1 makes it.
#[derive(Debug, Clone)]
pub struct Difference {
    /// What it is: "index users.ix_users_email is missing".
    pub what: String,
    /// Whether that matters.
    pub effect: Effect,
    /// Why, and what is done about it or is to be done.
    pub why: String,
    /// What repairs it, in this order.
    pub(crate) repair: Vec<Statement>,
    /// A repair that the rows may not allow.
    pub(crate) unless: Option<Unless>,
}

/// A question to the rows: where the answer is yes, the difference blocks.
#[derive(Debug, Clone)]
pub(crate) struct Unless {
    pub(crate) sql: String,
    pub(crate) why: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl Difference {
    pub(crate) fn blocks(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(what, Effect::Blocks, why, Vec::new())
    }

    pub(crate) fn harmless(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(what, Effect::Harmless, why, Vec::new())
    }

    pub(crate) fn repaired(
        what: impl Into<String>,
        why: impl Into<String>,
        repair: Vec<Statement>,
    ) -> Self {
        Self::new(what, Effect::Repaired, why, repair)
    }

    fn new(
        what: impl Into<String>,
        effect: Effect,
        why: impl Into<String>,
        repair: Vec<Statement>,
    ) -> Self {
        Self {
            what: what.into(),
            effect,
            why: why.into(),
            repair,
            unless: None,
        }
    }
}
