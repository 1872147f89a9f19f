//! A storage element's `_files` table: the change that an operation makes, in the transaction that
//! will also finish it. Each function returns the resulting row, which [`crate::publish::wal`] records.

use artstore_runtime::text::{optional, text};
use artstore_schemas::element::ElementName;
use artstore_schemas::event::{File, Omitted};
use artstore_schemas::json::Document;
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use uuid::Uuid;

use crate::publish::wal::PublishError;
use crate::texts::Texts;

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

const COLUMNS: &str = "file_id, original_filename, storage_filename, storage_path, file_size, \
     content_type, checksum, created_at, updated_at, created_by_id, created_by_username, \
     created_by_fullname, description, version, metadata_json::text as metadata";

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

/// The columns of `_files` as they are published, with times cut to the years that RFC 3339 can write.
/// A text over 4 MiB stays in the database, and [`large`] reads its size and digest.
pub fn shown_columns(texts: &Texts) -> String {
    texts.sql(SHOWN_COLUMNS)
}

const SHOWN_COLUMNS: &str = "file_id, {original_filename} as original_filename, \
     {storage_filename} as storage_filename, {storage_path} as storage_path, file_size, \
     {content_type} as content_type, {checksum} as checksum, \
     least(greatest(created_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00') as created_at, \
     least(greatest(updated_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00') as updated_at, \
     {created_by_id} as created_by_id, {created_by_username} as created_by_username, \
     {created_by_fullname} as created_by_fullname, \
     case when octet_length(description) <= 4194304 then {description} end as description, \
     {version} as version, \
     case when octet_length(metadata_json::text) <= 4194304 then {metadata_json::text} end as metadata, \
     array_remove(array[ \
         case when octet_length(description) > 4194304 \
              then 'file.description ' || octet_length(convert_to(description, 'UTF8')) || ' ' \
                   || encode(sha256(convert_to(description, 'UTF8')), 'hex') end, \
         case when octet_length(metadata_json::text) > 4194304 \
              then 'file.metadata ' || octet_length(convert_to(metadata_json::text, 'UTF8')) || ' ' \
                   || encode(sha256(convert_to(metadata_json::text, 'UTF8')), 'hex') end \
     ], null) as large";

/// Values that were too large to be fetched, and were measured in the database: the largest first, as it
/// would have been left out.
pub fn large(row: &PgRow) -> Result<Vec<Omitted>, sqlx::Error> {
    let measured: Vec<String> = row.try_get("large")?;
    let read = |text: &String| {
        let mut words = text.split(' ');
        Some(Omitted {
            field: words.next()?.to_owned(),
            bytes: words.next()?.parse().ok()?,
            sha256: words.next()?.to_owned(),
        })
    };
    let mut large: Vec<Omitted> = measured.iter().filter_map(read).collect();
    large.sort_by_key(|omitted| std::cmp::Reverse(omitted.bytes));
    Ok(large)
}

fn read(row: &PgRow) -> Result<File, sqlx::Error> {
    read_joined(row, row.try_get("file_id")?)
}

/// Reads the columns of `_files` in a wider row; metadata is text there.
pub fn read_joined(row: &PgRow, id: Uuid) -> Result<File, sqlx::Error> {
    let metadata = optional(row, "metadata")?;
    let created_at: DateTime<Utc> = row.try_get("created_at")?;
    Ok(File {
        id,
        original_filename: text(row, "original_filename")?,
        storage_filename: text(row, "storage_filename")?,
        storage_path: text(row, "storage_path")?,
        file_size: row.try_get("file_size")?,
        content_type: text(row, "content_type")?,
        checksum: text(row, "checksum")?,
        created_at,
        updated_at: row.try_get("updated_at")?,
        created_by_id: text(row, "created_by_id")?,
        created_by_username: text(row, "created_by_username")?,
        created_by_fullname: optional(row, "created_by_fullname")?,
        description: optional(row, "description")?,
        version: optional(row, "version")?,
        metadata: metadata.as_deref().and_then(Document::from_text),
    })
}
