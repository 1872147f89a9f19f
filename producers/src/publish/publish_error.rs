//! Why a publisher's row was not written.

use artstore_schemas::element::ElementName;
use artstore_schemas::json::UnsafeJson;
use artstore_schemas::size::MAX_BODY_BYTES;
use uuid::Uuid;
/// Why an operation was not recorded. Nothing of it was written then.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The database refused, or could not be reached.
    #[error("the database refused the operation: {}", artstore_runtime::words::refused(.0))]
    Database(#[from] sqlx::Error),
    /// The event would be larger than a message may be.
    #[error(
        "the event would have {bytes} bytes, at most {MAX_BODY_BYTES} fit into a message: \
         shorten the description or the metadata"
    )]
    TooLarge {
        /// The size of the body.
        bytes: usize,
    },
    /// An entity that only the relay's own records have.
    #[error("the entity {entity:?} is reserved for the relay's records: choose another one")]
    Reserved {
        /// The entity.
        entity: String,
    },
    /// JSON that a reader would see differently.
    #[error("{field}: {reason}")]
    UnsafeJson {
        /// Which of the fields.
        field: &'static str,
        /// What is wrong with it.
        reason: UnsafeJson,
    },
    /// The file is not the one that the operation was opened for.
    #[error("operation {id} was opened for file {opened:?}, its result is file {result}")]
    OtherFile {
        /// The operation.
        id: Uuid,
        /// The file that it was opened for.
        opened: Option<Uuid>,
        /// The file that it is to be finished with.
        result: Uuid,
    },
    /// The operation is not pending: it was finished before, or never opened.
    #[error("operation {id} is not pending on element {element}: it was finished before")]
    NotPending {
        /// The operation.
        id: Uuid,
        /// The element.
        element: ElementName,
    },
}
