//! Possible differences, before they are checked again. Of each kind a bounded number is
//! kept one by one; the rest is counted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::finding::Kind;

/// How many of a kind are kept one by one.
pub const MOST: usize = 100_000;

/// One of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The event: the row's, where a message is missing, else the message's.
    pub id: Option<Uuid>,
    /// The stream's sequence.
    pub sequence: Option<u64>,
    /// The position.
    pub position: Option<i64>,
    /// The event that a message states it follows, where that is not the one before it.
    pub follows: Option<Uuid>,
    /// It does not follow the message before it.
    #[serde(default)]
    pub unchained: bool,
    /// A higher position of the same file that comes before it.
    #[serde(rename = "over")]
    pub higher_before: Option<i64>,
    /// The message shows the present state, not that of the time of its row.
    #[serde(default)]
    pub republished: bool,
    /// What exactly.
    pub detail: String,
}

/// What distinguishes them: the position of a missing message, the id of a row without a
/// position, the sequence of the rest.
type Key = (i64, u64, Option<Uuid>);

/// All of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Candidates {
    kinds: BTreeMap<Kind, OfKind>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct OfKind {
    #[serde(with = "artstore_schemas::pairs")]
    kept: BTreeMap<Key, Candidate>,
    beyond: u64,
}

impl Candidates {
    /// Takes one.
    pub fn add(&mut self, kind: Kind, candidate: Candidate) {
        let of_kind = self.kinds.entry(kind).or_default();
        let key = match kind {
            Kind::MessageMissing => (candidate.position.unwrap_or(0), 0, None),
            Kind::RowUnnumbered => (0, 0, candidate.id),
            _ => (0, candidate.sequence.unwrap_or(0), None),
        };
        if of_kind.kept.len() < MOST || of_kind.kept.contains_key(&key) {
            of_kind.kept.insert(key, candidate);
        } else {
            of_kind.beyond += 1;
        }
    }

    /// Takes some that are only counted.
    pub fn count_only(&mut self, kind: Kind, more: u64) {
        self.kinds.entry(kind).or_default().beyond += more;
    }

    /// Takes back that the message of this position is missing: it came late. False: it was not
    /// counted as missing.
    pub fn came_late(&mut self, position: i64) -> bool {
        let Some(missing) = self.kinds.get_mut(&Kind::MessageMissing) else {
            return false;
        };
        if missing.kept.remove(&(position, 0, None)).is_some() {
            return true;
        }
        // One of those that were only counted.
        let counted = missing.beyond > 0;
        missing.beyond = missing.beyond.saturating_sub(1);
        counted
    }

    /// Whether the message of this position is missing, as far as those were kept.
    pub fn is_missing(&self, position: i64) -> bool {
        let missing = self.kinds.get(&Kind::MessageMissing);
        missing.is_some_and(|missing| missing.kept.contains_key(&(position, 0, None)))
    }

    /// Whether a message of this position differs from its row, as far as those were kept.
    pub fn is_changed(&self, position: i64) -> bool {
        let mut changed = self.of(Kind::MessageChanged);
        changed.any(|candidate| candidate.position == Some(position))
    }

    /// Those of a kind that were kept.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Candidate> {
        self.kinds
            .get(&kind)
            .into_iter()
            .flat_map(|k| k.kept.values())
    }

    /// How many of each kind there are.
    pub fn counts(&self) -> BTreeMap<Kind, u64> {
        let counts = self
            .kinds
            .iter()
            .map(|(kind, of)| (*kind, of.kept.len() as u64 + of.beyond));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Keeps those of a kind that a function keeps, and changes.
    pub fn retain(&mut self, kind: Kind, mut keep: impl FnMut(&mut Candidate) -> bool) {
        if let Some(of_kind) = self.kinds.get_mut(&kind) {
            of_kind.kept.retain(|_, candidate| keep(candidate));
        }
    }

    /// Takes out those of a kind for which a function is true.
    pub fn take(&mut self, kind: Kind, is_taken: impl Fn(&Candidate) -> bool) -> Vec<Candidate> {
        let taken: Vec<Candidate> = self.of(kind).filter(|c| is_taken(c)).cloned().collect();
        self.retain(kind, |candidate| !is_taken(candidate));
        taken
    }

    /// Takes back all of a kind.
    pub fn forget(&mut self, kind: Kind) {
        self.kinds.remove(&kind);
    }

    /// All that were kept.
    pub fn all(&self) -> impl Iterator<Item = (Kind, &Candidate)> {
        self.kinds
            .iter()
            .flat_map(|(kind, of)| of.kept.values().map(|c| (*kind, c)))
    }
}
