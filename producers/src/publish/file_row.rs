//! A row of a storage element's `_files` table, as it is read: by its publisher right after a change, and by
//! whoever publishes or compares it later.

use artstore_runtime::text::{optional, text};
use artstore_schemas::event::{File, Omitted};
use artstore_schemas::json::Document;
use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::texts::Texts;

/// The columns, as [`read`] takes them.
pub(crate) const COLUMNS: &str = "file_id, original_filename, storage_filename, storage_path, file_size, \
     content_type, checksum, created_at, updated_at, created_by_id, created_by_username, \
     created_by_fullname, description, version, metadata_json::text as metadata";

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

/// Reads a row of these columns.
pub(crate) fn read(row: &PgRow) -> Result<File, sqlx::Error> {
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
