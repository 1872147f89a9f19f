//! What a projector is: it turns a batch of received events into rows, in the transaction that
//! also moves the checkpoint. [`crate::runner`] does everything else.

use std::future::Future;

use artstore_schemas::envelope::Envelope;
use artstore_schemas::event::Event;
use artstore_schemas::source::Source;
use sqlx::PgConnection;

/// Builds one read model.
pub trait Projector: Send + Sync + 'static {
    /// The projection's name, as in its checkpoints.
    const NAME: &'static str;
    /// The form of its tables. A new one means that they are to be built again.
    const VERSION: u32;
    /// The tables that it owns.
    const TABLES: &'static [&'static str];
    /// Whether a commit waits for the disk. Without, rows and checkpoint are lost or kept
    /// together when the database crashes, and the stream still has the events.
    const DURABLE: bool;

    /// Whether it reads the stream of this source.
    fn reads(&self, source: &Source) -> bool;

    /// Applies a batch of one stream, in stream order. The runner commits it with the checkpoint,
    /// or nothing of it; it is called again with the same events after an error.
    fn apply(
        &self,
        transaction: &mut PgConnection,
        source: &Source,
        batch: &[Received],
    ) -> impl Future<Output = Result<(), Rejection>> + Send;
}

/// An event as it was received.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Its headers.
    pub envelope: Envelope,
    /// Its body.
    pub event: Event,
    /// The size of its body in bytes.
    pub size: usize,
}

/// Why a batch was not applied.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// It may work the next time: a lost connection, a deadlock.
    #[error("{0}")]
    Retry(sqlx::Error),
    /// An event of the batch can't be applied, whatever is tried.
    #[error("{0}")]
    Event(String),
    /// A bug, or tables that are not as they should be: no event can be applied.
    #[error("{0}")]
    Halt(String),
}

impl From<sqlx::Error> for Rejection {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default().into_owned();
                match code.get(..2).unwrap_or_default() {
                    // Data that does not fit, a broken rule, a program limit.
                    "22" | "23" | "54" => Self::Event(error.to_string()),
                    // Syntax, missing objects, missing rights.
                    "42" | "3F" => Self::Halt(error.to_string()),
                    _ => Self::Retry(error),
                }
            }
            sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::TypeNotFound { .. }
            | sqlx::Error::Encode(_)
            | sqlx::Error::Decode(_) => Self::Halt(error.to_string()),
            _ => Self::Retry(error),
        }
    }
}
