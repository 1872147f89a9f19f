//! A row of the cache, as it is and as an event states it; a file of an element, as it is
//! and as the element's last event states it. Compared field by field, with words for people.

use artstore_producers::publish::file_row;
use artstore_producers::texts::Texts;
use artstore_projectors::projector::Received;
use artstore_projectors::query_cache::tags;
use artstore_runtime::text;
use artstore_schemas::element::ElementName;
use artstore_schemas::event::{File, Omitted};
use artstore_schemas::json::Document;
use artstore_schemas::source::Source;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, FromRow, PgConnection, Row as _};
use uuid::Uuid;

use super::stream_files;

/// A row of the cache that the projector wrote.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct CacheRow {
    pub(super) id: String,
    element: String,
    filename: String,
    storage_filename: String,
    file_size: i64,
    mime_type: Option<String>,
    sha256_hash: String,
    username: String,
    description: Option<String>,
    url: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    content_version: Option<String>,
    created_by_id: Option<String>,
    created_by_fullname: Option<String>,
    metadata: Option<String>,
    tags: Option<Vec<Option<String>>>,
    tags_dropped: i32,
    omitted: Option<String>,
    stream: Option<String>,
    stream_sequence: Option<i64>,
    source_position: Option<i64>,
    event_id: Option<Uuid>,
    /// Whether it is found by its words.
    vector_fits: bool,
}

/// Reads the rows of some files. Rows of the product's own services are not ours. Tags in a form that
/// the projector never writes (more dimensions, other bounds) are read as one text: they differ.
pub async fn cached(query: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<CacheRow>> {
    let ids: Vec<String> = ids.iter().map(Uuid::to_string).collect();
    sqlx::query_as(
        "select id::text, storage_element_id as element, filename, storage_filename, file_size, \
             mime_type, sha256_hash::text, username, description, storage_element_url as url, \
             least(greatest(created_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00') as created_at, \
             least(greatest(updated_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00') as updated_at, \
             content_version, created_by_id, created_by_fullname, metadata::text as metadata, \
             case when tags is null or cardinality(tags) = 0 then tags::text[] \
                  when array_ndims(tags) = 1 and array_lower(tags, 1) = 1 then tags::text[] \
                  else array[tags::text] end as tags, tags_dropped, omitted::text as omitted, stream, \
             stream_sequence, source_position, event_id, \
             search_vector is not distinct from \
                 public.artstore_search_vector(filename, description, tags::text[]) as vector_fits \
         from public.file_metadata_cache where event_id is not null and id = any($1)",
    )
    .bind(ids)
    .fetch_all(query)
    .await
}

impl CacheRow {
    /// The row that the projector makes of an event.
    pub fn of(element: &ElementName, event: &Received) -> Option<Self> {
        let body = stream_files::body(event)?;
        let file = body.file.as_ref()?;
        let tags = tags::read(file.metadata.as_ref());
        let of_file = |omitted: &&Omitted| omitted.field.starts_with("file.");
        let omitted: Vec<&Omitted> = body.omitted.iter().filter(of_file).collect();
        Some(Self {
            id: file.id.to_string(),
            element: element.to_string(),
            filename: file.original_filename.clone(),
            storage_filename: file.storage_filename.clone(),
            file_size: file.file_size,
            mime_type: Some(file.content_type.clone()),
            sha256_hash: file.checksum.clone(),
            username: file.created_by_username.clone(),
            description: file.description.clone(),
            url: body.element.api_url.clone(),
            created_at: file.created_at,
            updated_at: file.updated_at,
            content_version: file.version.clone(),
            created_by_id: Some(file.created_by_id.clone()),
            created_by_fullname: file.created_by_fullname.clone(),
            metadata: file.metadata.as_ref().map(|document| match document {
                Document::Json(value) => value.to_string(),
                Document::Text(text) => text.clone(),
            }),
            tags: tags.kept.map(|tags| tags.into_iter().map(Some).collect()),
            tags_dropped: tags.dropped,
            omitted: (!omitted.is_empty())
                .then(|| serde_json::to_string(&omitted).ok())
                .flatten(),
            stream: Some(Source::Element(element.clone()).stream()),
            stream_sequence: i64::try_from(event.sequence).ok(),
            source_position: event.envelope.position,
            event_id: Some(event.envelope.id),
            vector_fits: true,
        })
    }

    /// The element that it shows.
    pub fn element(&self) -> &str {
        &self.element
    }

    /// Every field that differs: its name, what is there, what should be.
    pub fn differences(&self, wanted: &Self) -> Vec<String> {
        let json = |text: &Option<String>| text.as_deref().and_then(Document::from_text);
        let mut found = Differences::default();
        let mut field =
            |name: &'static str, is: &dyn std::fmt::Debug, same: bool, to: &dyn std::fmt::Debug| {
                found.add(name, is, same, to);
            };
        macro_rules! compare {
            ($($name:literal $field:ident),* $(,)?) => {
                $(field($name, &self.$field, self.$field == wanted.$field, &wanted.$field);)*
            };
        }
        compare! {
            "storage_element_id" element, "filename" filename,
            "storage_filename" storage_filename, "file_size" file_size, "mime_type" mime_type,
            "sha256_hash" sha256_hash, "username" username, "description" description,
            "storage_element_url" url, "created_at" created_at, "updated_at" updated_at,
            "content_version" content_version, "created_by_id" created_by_id,
            "created_by_fullname" created_by_fullname, "tags" tags, "tags_dropped" tags_dropped,
            "stream" stream, "stream_sequence" stream_sequence,
            "source_position" source_position, "event_id" event_id,
        }
        for (name, is, to) in [
            ("metadata", &self.metadata, &wanted.metadata),
            ("omitted", &self.omitted, &wanted.omitted),
        ] {
            field(name, is, json(is) == json(to), to);
        }
        field(
            "search_vector",
            &"other words",
            self.vector_fits,
            &"those of filename, description and tags",
        );
        found.0
    }
}

/// A file of an element, as its table has it.
#[derive(Debug, Clone, PartialEq)]
pub struct TableFile {
    /// The file.
    pub file_id: Uuid,
    original_filename: String,
    /// Its name on disk: a create that is pending may know no more than that.
    pub storage_filename: String,
    storage_path: String,
    file_size: i64,
    content_type: String,
    checksum: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    created_by_id: String,
    created_by_username: String,
    created_by_fullname: Option<String>,
    description: Option<String>,
    version: Option<String>,
    metadata: Option<String>,
    /// What is too large to be fetched; those fields are null above.
    large: Vec<Omitted>,
}

/// Reads some files of an element.
pub(crate) async fn in_table(
    connection: &mut PgConnection,
    element: &ElementName,
    texts: &Texts,
    ids: &[Uuid],
) -> sqlx::Result<Vec<TableFile>> {
    let sql = format!(
        "select {} from public.{element}_files where file_id = any($1)",
        file_row::shown_columns(texts)
    );
    sqlx::query_as(AssertSqlSafe(sql))
        .bind(ids)
        .fetch_all(connection)
        .await
}

// Texts of an element need not be UTF-8, and may come as bytes: they are read as the relay reads them.
impl FromRow<'_, PgRow> for TableFile {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            file_id: row.try_get("file_id")?,
            original_filename: text::text(row, "original_filename")?,
            storage_filename: text::text(row, "storage_filename")?,
            storage_path: text::text(row, "storage_path")?,
            file_size: row.try_get("file_size")?,
            content_type: text::text(row, "content_type")?,
            checksum: text::text(row, "checksum")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            created_by_id: text::text(row, "created_by_id")?,
            created_by_username: text::text(row, "created_by_username")?,
            created_by_fullname: text::optional(row, "created_by_fullname")?,
            description: text::optional(row, "description")?,
            version: text::optional(row, "version")?,
            metadata: text::optional(row, "metadata")?,
            large: file_row::large(row)?,
        })
    }
}

impl TableFile {
    /// Every field in which an event states something else: what it says, what is there.
    pub fn differences(&self, event: &Received) -> Vec<String> {
        let Some((body, file)) =
            stream_files::body(event).and_then(|b| Some((b, b.file.as_ref()?)))
        else {
            return Vec::new();
        };
        let mut found = Differences::default();
        macro_rules! compare {
            ($($field:ident),* $(,)?) => {
                $(found.add(stringify!($field), &file.$field, file.$field == self.$field, &self.$field);)*
            };
        }
        compare! {
            original_filename, storage_filename, storage_path, content_type, created_at,
            updated_at, created_by_id, created_by_username, created_by_fullname, version,
        }
        // An empty checksum was lost by the element: its operation's result stated it, with the size.
        let is_lost = self.checksum.is_empty();
        let same = is_lost || file.checksum == self.checksum;
        found.add("checksum", &file.checksum, same, &self.checksum);
        let same = is_lost || file.file_size == self.file_size;
        found.add("file_size", &file.file_size, same, &self.file_size);
        let omitted = |name: &str| body.omitted.iter().find(|o| o.field == name);
        let same = match omitted("file.description") {
            Some(omitted) => {
                self.large.contains(omitted) || digest_fits(omitted, self.description.as_deref())
            }
            None => file.description == self.description && !self.is_large("file.description"),
        };
        found.add("description", &file.description, same, &self.description);
        let metadata = self.metadata.as_deref().and_then(Document::from_text);
        let same = match omitted("file.metadata") {
            Some(omitted) => {
                let text = metadata.as_ref().map(text_of);
                self.large.contains(omitted) || digest_fits(omitted, text.as_deref())
            }
            None => file.metadata == metadata && !self.is_large("file.metadata"),
        };
        found.add("metadata", &file.metadata, same, &metadata);
        found.0
    }
}

impl TableFile {
    fn is_large(&self, field: &str) -> bool {
        self.large.iter().any(|large| large.field == field)
    }
}

/// Whether a text is the one that was left out of a message.
fn digest_fits(omitted: &Omitted, text: Option<&str>) -> bool {
    let digest = |text: &str| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        hex
    };
    text.is_some_and(|text| text.len() as u64 == omitted.bytes && digest(text) == omitted.sha256)
}

fn text_of(document: &Document) -> String {
    match document {
        Document::Json(value) => value.to_string(),
        Document::Text(text) => text.clone(),
    }
}

#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn add(
        &mut self,
        name: &'static str,
        is: &dyn std::fmt::Debug,
        same: bool,
        to: &dyn std::fmt::Debug,
    ) {
        if !same {
            self.0
                .push(format!("{name}: is {}, should be {}", shown(is), shown(to)));
        }
    }
}

/// A value as a finding shows it: not longer than people read.
fn shown(value: &dyn std::fmt::Debug) -> String {
    const MOST: usize = 80;
    let text = format!("{value:?}");
    let text = match text.strip_prefix("Some(").and_then(|t| t.strip_suffix(')')) {
        Some(inner) => inner.to_owned(),
        None if text == "None" => "null".to_owned(),
        None => text,
    };
    match text.chars().count() > MOST {
        true => text.chars().take(MOST).chain(['…']).collect(),
        false => text,
    }
}

/// What a file is called where a finding has no row to show.
pub fn name(file: &File) -> String {
    shown(&file.original_filename)
}
