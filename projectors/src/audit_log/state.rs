//! The audit log in memory: what it is signed with, and what its sessions know of each stream's log.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use artstore_bus::connection::Bus;

use super::chain::Keyring;
use super::head::{Head, origin};
use super::note::{SignerKey, VerifierKey};
use super::resume::End;

/// Builds the audit log.
#[derive(Clone)]
pub struct AuditLog {
    pub(super) keys: Arc<Keys>,
    known: Arc<Mutex<HashMap<String, Known>>>,
    /// Secrets that are not configured, and of which a warning was written.
    warned: Arc<Mutex<BTreeSet<String>>>,
    /// Whether the stream of heads removes messages at some limit.
    pub(super) heads_limited: Arc<AtomicBool>,
    /// The connection that publishes heads, where the one that reads may not.
    publisher: Option<Arc<Bus>>,
}

/// What the log is signed with.
#[derive(Debug)]
pub struct Keys {
    /// Signs rows.
    pub ring: Keyring,
    /// Signs heads.
    pub signer: SignerKey,
    /// Signed heads before, besides the one that signs now.
    pub old: Vec<VerifierKey>,
    /// Rows wait no longer for a head.
    pub head_after: Duration,
}

impl Keys {
    /// All keys whose heads count.
    pub fn trusted(&self) -> Vec<VerifierKey> {
        let current = self.signer.verifier().clone();
        std::iter::once(current)
            .chain(self.old.iter().cloned())
            .collect()
    }
}

impl AuditLog {
    /// With these keys.
    pub fn new(keys: Keys) -> Self {
        Self {
            keys: Arc::new(keys),
            known: Arc::default(),
            warned: Arc::default(),
            heads_limited: Arc::default(),
            publisher: None,
        }
    }

    /// Publishes heads on a connection of its own.
    #[must_use]
    pub fn publishing_on(mut self, bus: Bus) -> Self {
        self.publisher = Some(Arc::new(bus));
        self
    }

    /// The connection that publishes heads.
    pub(super) fn publisher<'a>(&'a self, reader: &'a Bus) -> &'a Bus {
        self.publisher.as_deref().unwrap_or(reader)
    }

    pub(super) fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn warned(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.warned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn origin(&self, stream: &str) -> String {
        origin(self.keys.signer.verifier().name(), stream)
    }
}

/// What a session knows of a stream's log.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// The log's end, as it was committed. Nothing else is signed, whatever the tables state.
    pub(super) end: End,
    /// Its end if the batch that was written last is committed.
    pub(super) next: Option<End>,
    pub(super) published: Published,
    /// Heads on the bus above the database's size, with their notes: an older state of the database
    /// was restored, and has to come to the same.
    pub(super) ahead: BTreeMap<u64, (Head, String)>,
}

/// The last head on the bus.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Published {
    /// Its sequence there; 0: there is none.
    pub(super) sequence: u64,
    /// Its size.
    pub(super) size: u64,
}
