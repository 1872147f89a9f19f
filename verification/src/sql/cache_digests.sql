-- The rows that the projector wrote, each with the digest of its text: the same fields in the same
-- order as in element_digests.sql. The last one says whether the rest of the row fits to itself;
-- a row whose message left something out never does, so that it is looked at by itself.
-- $1: elements that are not compared.
select c.id,
       times.created_at as claim,
       hashtextextended(row(
           c.id::text, c.storage_element_id, c.filename, c.storage_filename,
           c.file_size, c.mime_type, c.sha256_hash::text, c.username,
           c.description, times.created_at, times.updated_at, c.content_version,
           c.created_by_id, c.created_by_fullname,
           c.metadata::text,
           c.tags::text[], c.tags_dropped,
           c.omitted is null
               and c.stream is not distinct from 'ARTSTORE_WAL_' || c.storage_element_id
               and c.search_vector is not distinct from
                   public.artstore_search_vector(c.filename, c.description, c.tags::text[])
       )::text collate "C", 0) as digest
from public.file_metadata_cache c
cross join lateral (
    select (extract(epoch from least(greatest(c.created_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00')) * 1000000)::bigint as created_at,
           (extract(epoch from least(greatest(c.updated_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00')) * 1000000)::bigint as updated_at
) times
where c.event_id is not null
  and c.id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
  and c.storage_element_id <> all($1::text[])
