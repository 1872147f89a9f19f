//! The rows at the positions of some messages, as [`crate::stream::message_checker`] compares them.

use std::collections::HashMap;

use artstore_bus::message::Message;
use artstore_schemas::ranges::Ranges;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::stream::content::RowContent;
use artstore_producers::relay::prune_mark;
use artstore_producers::relay::relay_error::RelayError;
use artstore_producers::relay::source::{SourceRow, SourceTable};
use artstore_producers::relay::translate::Translator;

/// The rows at the positions of a batch.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// By position.
    pub(crate) held: HashMap<i64, Row>,
    /// Rows up to this position may have been pruned.
    pub(crate) prune_mark: i64,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) id: Uuid,
    /// What it states, where that was read.
    pub(crate) content: Option<RowContent>,
}

impl Rows {
    /// Reads the rows of some messages, with what they state or only their ids.
    pub(crate) async fn of(
        translator: &Translator,
        table: &SourceTable,
        connection: &mut PgConnection,
        batch: &[Message],
        bodies: bool,
    ) -> Result<Self, RelayError> {
        let mut positions = Ranges::default();
        for message in batch {
            if let Some(position) = message.envelope().and_then(|envelope| envelope.position) {
                positions.insert(position);
            }
        }
        let (ranges, limit) = (positions.as_slice(), positions.positions());
        let mut held = HashMap::new();
        if bodies {
            let take = |row: SourceRow| {
                let (position, id) = (row.position, row.id);
                let content = Some(RowContent::of(translator, row));
                held.insert(position, Row { id, content });
            };
            table.each_row(connection, ranges, limit, take).await?;
        } else {
            for row in table.ids(connection, ranges, limit).await? {
                let (id, content) = (row.id, None);
                held.insert(row.position, Row { id, content });
            }
        }
        let prune_mark = prune_mark::read(connection, table).await?;
        Ok(Self { held, prune_mark })
    }

    /// The row of a position with an id, if it is that one.
    pub(crate) fn row(&self, position: i64, id: Uuid) -> Option<&Row> {
        self.held.get(&position).filter(|row| row.id == id)
    }

    /// Whether the row of a position was pruned.
    pub(crate) fn is_pruned(&self, position: i64) -> bool {
        position <= self.prune_mark && !self.held.contains_key(&position)
    }
}
