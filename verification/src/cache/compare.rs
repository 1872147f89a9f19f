//! The cache compared with the elements' `_files`, row by row and field by field. A file that is on
//! several elements is shown from the one with the highest claim: the latest `created_at`, then
//! the element's name.

use std::collections::HashMap;

use artstore_schemas::element::ElementName;
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use uuid::Uuid;

/// What was found.
#[derive(Debug, Default)]
pub struct CacheReport {
    /// Files that the elements hold.
    pub live_files: usize,
    /// Rows that the projector wrote.
    pub cache_rows: usize,
    /// Files without a row.
    pub missing: Vec<Uuid>,
    /// Rows without a file.
    pub extra: Vec<Uuid>,
    /// Rows that differ from their file, and in which field first.
    pub different: Vec<(Uuid, &'static str)>,
}

impl CacheReport {
    /// Whether all is as it should be.
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.different.is_empty()
    }
}

/// A file as both sides hold it. Times are compared as the database keeps them.
#[derive(Debug, Clone, FromRow)]
struct FileRow {
    id: Uuid,
    element: String,
    filename: String,
    storage_filename: String,
    file_size: i64,
    mime_type: String,
    checksum: String,
    username: String,
    description: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    version: Option<String>,
    metadata: Option<String>,
    /// Fields that were left out of an oversized message: not compared.
    omitted: String,
}

/// Compares the cache with the elements, each on its own connection.
pub async fn compare(
    elements: &mut [(ElementName, PgConnection)],
    query: &mut PgConnection,
) -> anyhow::Result<CacheReport> {
    let mut expected: HashMap<Uuid, FileRow> = HashMap::new();
    for (element, connection) in elements {
        for file in files_of(element, connection).await? {
            let shown = expected.entry(file.id).or_insert_with(|| file.clone());
            if (file.created_at, &file.element) > (shown.created_at, &shown.element) {
                *shown = file;
            }
        }
    }
    let rows: Vec<FileRow> = sqlx::query_as(
        "select id::uuid as id, storage_element_id as element, filename, storage_filename, \
             file_size, coalesce(mime_type, '') as mime_type, sha256_hash as checksum, username, \
             description, created_at, updated_at, content_version as version, \
             metadata::text as metadata, coalesce(omitted::text, '') as omitted \
         from public.file_metadata_cache where event_id is not null",
    )
    .fetch_all(query)
    .await?;
    let mut report = CacheReport {
        live_files: expected.len(),
        cache_rows: rows.len(),
        ..CacheReport::default()
    };
    for row in rows {
        match expected.remove(&row.id) {
            None => report.extra.push(row.id),
            Some(file) => {
                let differs = difference(&file, &row);
                report
                    .different
                    .extend(differs.map(|field| (row.id, field)));
            }
        }
    }
    report.missing = expected.into_keys().collect();
    Ok(report)
}

async fn files_of(
    element: &ElementName,
    connection: &mut PgConnection,
) -> anyhow::Result<Vec<FileRow>> {
    let sql = format!(
        "select file_id as id, '{element}' as element, original_filename as filename, \
             storage_filename, file_size, content_type as mime_type, checksum, \
             created_by_username as username, description, created_at, updated_at, version, \
             nullif(metadata_json, 'null'::jsonb)::text as metadata, '' as omitted \
         from public.{element}_files"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .fetch_all(connection)
        .await?)
}

fn difference(file: &FileRow, row: &FileRow) -> Option<&'static str> {
    let omitted = |field: &str| row.omitted.contains(field);
    let fields = [
        ("element", file.element == row.element),
        ("filename", file.filename == row.filename),
        (
            "storage_filename",
            file.storage_filename == row.storage_filename,
        ),
        // With the checksum, the operation's result stated the size.
        (
            "file_size",
            file.file_size == row.file_size || file.checksum.is_empty(),
        ),
        ("mime_type", file.mime_type == row.mime_type),
        (
            "checksum",
            file.checksum == row.checksum || file.checksum.is_empty(),
        ),
        ("username", file.username == row.username),
        (
            "description",
            file.description == row.description || omitted("file.description"),
        ),
        ("created_at", file.created_at == row.created_at),
        ("updated_at", file.updated_at == row.updated_at),
        ("version", file.version == row.version),
        (
            "metadata",
            file.metadata == row.metadata || omitted("file.metadata"),
        ),
    ];
    fields
        .iter()
        .find(|(_, same)| !same)
        .map(|(field, _)| *field)
}
