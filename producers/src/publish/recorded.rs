//! What our API keeps in a row of the WAL about its operation. The relay reads it again.

use artstore_schemas::actor::Actor;
use artstore_schemas::event::File;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// The version of the marker that rows of this API carry in `operation_data`.
pub(crate) const MARKER: u32 = 1;

/// What this API keeps in `operation_data`. The marker means for the relay that a committed row
/// carries the file's full state, so that it is published as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    pub(crate) artstore: u32,
    pub(crate) actor: Actor,
    #[serde(default)]
    pub(crate) request_id: Option<String>,
    /// The file after the operation; null when it is gone, or for an operation on the element.
    #[serde(default)]
    pub(crate) file: Option<File>,
    #[serde(default)]
    pub(crate) data: Option<Value>,
}

impl Recorded {
    /// What this API recorded about this file; none for a row that something else wrote, or that
    /// only looks like one of ours.
    pub(crate) fn read(operation_data: &str, file_id: Option<Uuid>) -> Option<Self> {
        let recorded: Self = serde_json::from_str(operation_data).ok()?;
        let fits = recorded
            .file
            .as_ref()
            .is_none_or(|file| Some(file.id) == file_id && has_column_sizes(file));
        (recorded.artstore == MARKER && fits).then_some(recorded)
    }
}

/// Whether the texts of a file are no longer than the columns of `_files` allow: only such a row can
/// be ours, and every reader's table and index has room for it.
fn has_column_sizes(file: &File) -> bool {
    let texts = [
        (Some(&file.original_filename), 500),
        (Some(&file.storage_filename), 500),
        (Some(&file.storage_path), 1_000),
        (Some(&file.content_type), 255),
        (Some(&file.checksum), 64),
        (Some(&file.created_by_id), 255),
        (Some(&file.created_by_username), 255),
        (file.created_by_fullname.as_ref(), 500),
        (file.version.as_ref(), 50),
    ];
    texts
        .into_iter()
        .all(|(text, most)| text.is_none_or(|text| text.chars().count() <= most))
}
