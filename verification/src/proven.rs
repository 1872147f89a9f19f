//! How far a source is proven, as a process that checks it continuously knows it: plain numbers,
//! written by [`super::continuous`], read at any time by whoever shows them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::finding::Kind;

/// Numbers that are older than this are none: whoever brings them up to date does not.
pub const STALE: Duration = Duration::from_secs(300);

/// One source's numbers. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Proven(Arc<Mutex<ProvenState>>);

/// What is known of one source.
#[derive(Debug, Clone, Default)]
pub struct ProvenState {
    /// Every position up to this one has its row and its message, and they agree, or was taken
    /// back; none before anything was checked.
    pub position: Option<i64>,
    /// The last sequence of the stream that was checked.
    pub sequence: u64,
    /// How many findings of each kind there are at present.
    pub findings: BTreeMap<Kind, u64>,
    /// When this was last brought up to date.
    pub updated: Option<Instant>,
    /// Why the check does not continue, while it does not.
    pub problem: Option<String>,
}

impl Proven {
    /// As it is now, all of one moment.
    pub fn read(&self) -> ProvenState {
        self.lock().clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut ProvenState)) {
        let mut state = self.lock();
        change(&mut state);
        state.updated = Some(Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, ProvenState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
