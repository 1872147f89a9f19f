-- An element's files, each with the digest of the text that its row in the cache must have.
-- The same fields in the same order as in cache_digests.sql.
-- Times are cut to the years that the bus can write, as in the relay's poll; JSON null is no
-- metadata; tags are the texts of an array `tags`, at most 50 of at most 50 characters.
select f.file_id::text as id,
       times.created_at as claim,
       hashtextextended(row(
           f.file_id::text, '{element}', f.original_filename::text, f.storage_filename::text,
           f.file_size, f.content_type::text, f.checksum::text, f.created_by_username::text,
           f.description, times.created_at, times.updated_at, f.version::text,
           f.created_by_id::text, f.created_by_fullname::text,
           nullif(f.metadata_json, 'null'::jsonb)::text,
           tags.kept, coalesce(tags.found - cardinality(tags.kept), 0), true
       )::text collate "C", 0) as digest
from public.{element}_files f
cross join lateral (
    select (extract(epoch from least(greatest(f.created_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00')) * 1000000)::bigint as created_at,
           (extract(epoch from least(greatest(f.updated_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00')) * 1000000)::bigint as updated_at
) times
cross join lateral (
    -- `case` decides what is evaluated. A condition beside jsonb_array_elements does not: the function
    -- may come first, and it raises on what is no array.
    select case when jsonb_typeof(f.metadata_json -> 'tags') = 'array' then f.metadata_json -> 'tags' end as list
) tagged
cross join lateral (
    select case when tagged.list is not null then array(
               select t.item #>> '{}'
               from jsonb_array_elements(tagged.list) with ordinality as t(item, n)
               where jsonb_typeof(t.item) = 'string' and char_length(t.item #>> '{}') <= 50
               order by t.n
               limit 50
           ) end as kept,
           jsonb_array_length(tagged.list) as found
) tags
