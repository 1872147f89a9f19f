//! A storage element's `_files` table: the change that an operation makes, in the transaction that
//! will also finish it. Each function returns the resulting row, which [`crate::publish::wal`] records.

use artstore_schemas::element::ElementName;
use artstore_schemas::event::File;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::publish::file_row::{COLUMNS, read};
use crate::publish::publish_error::PublishError;

/// A file to create.
#[derive(Debug, Clone)]
pub struct NewFile {
    /// Its id.
    pub id: Uuid,
    /// The name that people gave it, at most 500 characters.
    pub original_filename: String,
    /// The name on disk, unique on the element.
    pub storage_filename: String,
    /// Its path on disk.
    pub storage_path: String,
    /// Size in bytes.
    pub file_size: i64,
    /// MIME type.
    pub content_type: String,
    /// SHA-256 of the content in hex.
    pub checksum: String,
    /// Who created it: id as text.
    pub created_by_id: String,
    /// Who created it: user name.
    pub created_by_username: String,
    /// Who created it: full name.
    pub created_by_fullname: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// The user's own version label.
    pub version: Option<String>,
    /// Free-form metadata; `tags` in it are the file's tags.
    pub metadata: Option<Value>,
}

/// The changes of a file; a field that is none stays as it is.
#[derive(Debug, Clone, Default)]
pub struct FileUpdate {
    /// A new name.
    pub original_filename: Option<String>,
    /// A new description.
    pub description: Option<String>,
    /// A new version label.
    pub version: Option<String>,
    /// New metadata.
    pub metadata: Option<Value>,
}

/// Inserts a file. `created_at` is the database's clock at this statement, so that a file that
/// moves to another element is newer there.
pub async fn insert(
    connection: &mut PgConnection,
    element: &ElementName,
    file: &NewFile,
) -> Result<File, PublishError> {
    check_metadata(file.metadata.as_ref())?;
    let sql = format!(
        "insert into public.{element}_files (file_id, original_filename, storage_filename, \
             storage_path, file_size, content_type, checksum, created_by_id, created_by_username, \
             created_by_fullname, description, version, metadata_json, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, clock_timestamp(), clock_timestamp()) \
         returning {COLUMNS}"
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(file.id)
        .bind(&file.original_filename)
        .bind(&file.storage_filename)
        .bind(&file.storage_path)
        .bind(file.file_size)
        .bind(&file.content_type)
        .bind(&file.checksum)
        .bind(&file.created_by_id)
        .bind(&file.created_by_username)
        .bind(&file.created_by_fullname)
        .bind(&file.description)
        .bind(&file.version)
        .bind(&file.metadata)
        .fetch_one(connection)
        .await?;
    Ok(read(&row)?)
}

/// Updates a file; none when it is not there.
pub async fn update(
    connection: &mut PgConnection,
    element: &ElementName,
    id: Uuid,
    change: &FileUpdate,
) -> Result<Option<File>, PublishError> {
    check_metadata(change.metadata.as_ref())?;
    let sql = format!(
        "update public.{element}_files set \
             original_filename = coalesce($2, original_filename), \
             description = coalesce($3, description), \
             version = coalesce($4, version), \
             metadata_json = coalesce($5, metadata_json), \
             updated_at = clock_timestamp() \
         where file_id = $1 returning {COLUMNS}"
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id)
        .bind(&change.original_filename)
        .bind(&change.description)
        .bind(&change.version)
        .bind(&change.metadata)
        .fetch_optional(connection)
        .await?;
    Ok(row.as_ref().map(read).transpose()?)
}

/// Deletes a file and returns what it was; none when it was not there.
pub async fn delete(
    connection: &mut PgConnection,
    element: &ElementName,
    id: Uuid,
) -> Result<Option<File>, PublishError> {
    let sql = format!("delete from public.{element}_files where file_id = $1 returning {COLUMNS}");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id)
        .fetch_optional(connection)
        .await?;
    Ok(row.as_ref().map(read).transpose()?)
}

fn check_metadata(metadata: Option<&Value>) -> Result<(), PublishError> {
    metadata
        .map_or(Ok(()), artstore_schemas::json::check)
        .map_err(|reason| PublishError::UnsafeJson {
            field: "metadata",
            reason,
        })
}
