-- The rows of files that this element owns now, one item of each array a file.
-- The search vector is supplied here: the table's trigger is for other writers.
insert into file_metadata_cache as cache (
    id, filename, storage_filename, file_size, mime_type, sha256_hash, username, tags, description,
    storage_element_id, storage_element_url, created_at, updated_at, cache_updated_at,
    search_vector, event_id, stream, stream_sequence, source_position, content_version,
    created_by_id, created_by_fullname, metadata, tags_dropped, omitted
)
select f.id::text, f.filename, f.storage_filename, f.file_size, f.mime_type, f.sha256_hash,
       f.username, f.tags::varchar(50)[], f.description, $20, f.storage_element_url, f.created_at,
       f.updated_at, now(),
       public.artstore_search_vector(f.filename, f.description, f.tags::text[]),
       f.event_id, $21, f.stream_sequence, f.source_position, f.content_version,
       f.created_by_id, f.created_by_fullname, f.metadata::jsonb, f.tags_dropped, f.omitted::jsonb
from unnest(
    $1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::text[], $11::timestamptz[], $12::timestamptz[], $13::uuid[],
    $14::bigint[], $15::bigint[], $16::text[], $17::text[], $18::text[], $19::text[],
    $22::integer[], $23::text[]
) as f(id, filename, storage_filename, file_size, mime_type, sha256_hash, username, tags,
       description, storage_element_url, created_at, updated_at, event_id, stream_sequence,
       source_position, content_version, created_by_id, created_by_fullname, metadata,
       tags_dropped, omitted)
on conflict (id) do update set
    filename = excluded.filename,
    storage_filename = excluded.storage_filename,
    file_size = excluded.file_size,
    mime_type = excluded.mime_type,
    sha256_hash = excluded.sha256_hash,
    username = excluded.username,
    tags = excluded.tags,
    description = excluded.description,
    storage_element_id = excluded.storage_element_id,
    storage_element_url = excluded.storage_element_url,
    created_at = excluded.created_at,
    updated_at = excluded.updated_at,
    cache_updated_at = excluded.cache_updated_at,
    search_vector = excluded.search_vector,
    event_id = excluded.event_id,
    stream = excluded.stream,
    stream_sequence = excluded.stream_sequence,
    source_position = excluded.source_position,
    content_version = excluded.content_version,
    created_by_id = excluded.created_by_id,
    created_by_fullname = excluded.created_by_fullname,
    metadata = excluded.metadata,
    tags_dropped = excluded.tags_dropped,
    omitted = excluded.omitted
