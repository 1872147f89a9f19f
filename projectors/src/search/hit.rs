//! A file that was found: a row of `file_metadata_cache`, without what only the projector needs.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

/// A file.
#[derive(Debug, Clone, Serialize)]
pub struct Hit {
    /// Its id.
    pub id: String,
    /// The name that people gave it.
    pub filename: String,
    /// Its name on disk.
    pub storage_filename: String,
    /// Size in bytes.
    pub file_size: i64,
    /// MIME type.
    pub mime_type: Option<String>,
    /// SHA-256 of the content, in hex.
    pub sha256_hash: String,
    /// Who created it: user name.
    pub username: String,
    /// Who created it: id as text. Unknown for rows that the product's own services wrote, as
    /// are all that may be null from here on.
    pub created_by_id: Option<String>,
    /// Who created it: full name.
    pub created_by_fullname: Option<String>,
    /// Its tags; null where its metadata has none.
    pub tags: Option<Vec<String>>,
    /// Free text.
    pub description: Option<String>,
    /// The user's own version label.
    pub content_version: Option<String>,
    /// Free-form metadata, as the database prints it.
    pub metadata: Option<Box<RawValue>>,
    /// The element that it lives on.
    pub storage_element_id: String,
    /// Where that element's API is reached.
    pub storage_element_url: Option<String>,
    /// When it came to its element.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// The position of the element's operation that this row shows.
    pub source_position: Option<i64>,
    /// How well it fits the text, above 0 and at most 1; null without text.
    pub relevance: Option<f32>,
}

/// What [`Hit::read`] needs, but for `relevance`. A row that the product's own services wrote may hold
/// anything that the columns take: arrays of any form, times that no calendar has.
pub(super) const COLUMNS: &str = "id::text as id, filename::text as filename, \
    storage_filename::text as storage_filename, file_size, mime_type::text as mime_type, \
    sha256_hash::text as sha256_hash, username::text as username, created_by_id, \
    created_by_fullname, case when tags is not null then array( \
        select tag::text from unnest(tags) with ordinality as t (tag, place) \
        where tag is not null order by place) end as tags, description, content_version, \
    metadata::text as metadata, storage_element_id::text as storage_element_id, \
    storage_element_url::text as storage_element_url, \
    least(greatest(created_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00') as created_at, \
    least(greatest(updated_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00') as updated_at, \
    source_position";

impl Hit {
    pub(super) fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let metadata: Option<String> = row.try_get("metadata")?;
        Ok(Self {
            id: row.try_get("id")?,
            filename: row.try_get("filename")?,
            storage_filename: row.try_get("storage_filename")?,
            file_size: row.try_get("file_size")?,
            mime_type: row.try_get("mime_type")?,
            sha256_hash: row.try_get("sha256_hash")?,
            username: row.try_get("username")?,
            created_by_id: row.try_get("created_by_id")?,
            created_by_fullname: row.try_get("created_by_fullname")?,
            tags: row.try_get("tags")?,
            description: row.try_get("description")?,
            content_version: row.try_get("content_version")?,
            metadata: metadata
                .map(RawValue::from_string)
                .transpose()
                .map_err(|error| sqlx::Error::Decode(error.into()))?,
            storage_element_id: row.try_get("storage_element_id")?,
            storage_element_url: row.try_get("storage_element_url")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            source_position: row.try_get("source_position")?,
            relevance: row.try_get("relevance")?,
        })
    }
}
