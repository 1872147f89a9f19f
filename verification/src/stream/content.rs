//! Compares what a message states with what its row states. Of a row that carries the state of its file
//! everything is compared. Of another row the state was that of `_files` at the time, which is not known any
//! more and is left out; a row that was published again shows the present state, which is left out too. Used
//! by both checks of a stream.

use artstore_schemas::source::Source;
use serde::{Deserialize, Serialize};

use crate::stream::fingerprint::{ComparableEvent, Digest};
use artstore_producers::relay::source::SourceRow;
use artstore_producers::relay::translate::Translator;

/// What a row states.
#[derive(Debug, Clone)]
pub struct RowContent {
    carries_state: bool,
    event: ComparableEvent,
}

/// What a message states, as digests, for as long as its row has not been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentDigest {
    /// All of it.
    whole: Digest,
    /// All but the file's state.
    stateless: Digest,
}

/// What a row states, as digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowDigest {
    carries_state: bool,
    content: ContentDigest,
}

/// Whether the file's state is compared, too.
fn is_compared_whole(carries_state: bool, republished: bool) -> bool {
    carries_state && !republished
}

impl RowContent {
    /// Translates the row again.
    pub fn of(translator: &Translator, row: SourceRow) -> Self {
        // An outbox row carries all that its event states.
        let carries_state = match translator.source() {
            Source::Element(_) => row.is_recorded(),
            Source::Admin | Source::Query => true,
        };
        Self::new(ComparableEvent::from_row(translator, row), carries_state)
    }

    pub(crate) fn new(event: ComparableEvent, carries_state: bool) -> Self {
        Self {
            carries_state,
            event,
        }
    }

    /// Whether it carries all that its message states: a row of an outbox, or one that our API committed.
    /// Of the latter it is also certain which came first.
    pub fn carries_state(&self) -> bool {
        self.carries_state
    }

    /// What it is about: a row of an element's, its file.
    pub fn about(&self) -> Option<&str> {
        self.event.about()
    }

    /// The fields in which a message of this row differs from it; none where it agrees. `republished`: it
    /// shows the present state.
    pub fn differences(&self, message: ComparableEvent, republished: bool) -> Option<Vec<String>> {
        let (message, row) = match is_compared_whole(self.carries_state, republished) {
            true => (message, self.event.clone()),
            false => (message.without_state(), self.event.clone().without_state()),
        };
        (message.digest() != row.digest()).then(|| message.differences(&row))
    }

    /// The same as digests.
    pub fn digest(&self) -> RowDigest {
        RowDigest {
            carries_state: self.carries_state,
            content: ContentDigest::of(self.event.clone()),
        }
    }
}

impl ContentDigest {
    /// Of a message, or a row.
    pub fn of(event: ComparableEvent) -> Self {
        Self {
            whole: event.digest(),
            stateless: event.without_state().digest(),
        }
    }
}

impl RowDigest {
    /// As [`RowContent::carries_state`].
    pub fn carries_state(&self) -> bool {
        self.carries_state
    }

    /// Whether a message of this row states what it states, as [`RowContent::differences`] compares it.
    pub fn agrees(&self, message: &ContentDigest, republished: bool) -> bool {
        match is_compared_whole(self.carries_state, republished) {
            true => message.whole == self.content.whole,
            false => message.stateless == self.content.stateless,
        }
    }
}
