//! Messages that come after a higher position of the same file, where our API wrote their row.

use artstore_schemas::envelope::{Envelope, Snapshot};
use artstore_schemas::source::Source;
use uuid::Uuid;

use crate::stream::agreement::MOST_LISTED;
use crate::stream::order::Order;

/// The order of the changes of each file.
#[derive(Debug, Default)]
pub(crate) struct FileOrder {
    order: Order,
    /// The first [`MOST_LISTED`].
    out_of_order: Vec<OutOfOrder>,
}

/// A message that comes after a higher position of the same file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutOfOrder {
    pub(crate) sequence: u64,
    /// That position. It counts if our API wrote that row, too.
    pub(crate) higher_before: i64,
    pub(crate) id: Uuid,
    pub(crate) file: Uuid,
}

/// The file that a message of an element's stream is about.
pub(crate) fn file_of(source: &Source, envelope: &Envelope) -> Option<Uuid> {
    match source {
        Source::Element(_) => envelope.subject.as_ref()?.parse().ok(),
        Source::Admin | Source::Query => None,
    }
}

/// The file that a message changes, where its order among the file's changes matters: what is published
/// again shows the present state.
pub(crate) fn ordered_file(source: &Source, envelope: &Envelope) -> Option<Uuid> {
    let republished = envelope.snapshot == Some(Snapshot::Republish);
    file_of(source, envelope).filter(|_| !republished)
}

impl FileOrder {
    /// Takes the message of a row. `recorded`: our API wrote the row.
    pub(crate) fn see(
        &mut self,
        source: &Source,
        sequence: u64,
        position: i64,
        envelope: &Envelope,
        recorded: bool,
    ) {
        let Some(file) = ordered_file(source, envelope) else {
            return;
        };
        let higher = self.order.see(file, position);
        if let Some(higher_before) = higher.filter(|_| recorded)
            && self.out_of_order.len() < MOST_LISTED
        {
            self.out_of_order.push(OutOfOrder {
                sequence,
                higher_before,
                id: envelope.id,
                file,
            });
        }
    }

    /// Positions start over after a break of the source.
    pub(crate) fn clear(&mut self) {
        self.order.clear();
    }

    /// The messages that come after a higher position of the same file.
    pub(crate) fn take(&mut self) -> Vec<OutOfOrder> {
        std::mem::take(&mut self.out_of_order)
    }
}
