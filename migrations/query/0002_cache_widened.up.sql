-- Makes room for every row that an element can legally hold, and for where it came from.

-- part: concurrently
-- Two files may have the same content. The index keeps its name in the end: a later migration of
-- the product drops it by name.
drop index concurrently if exists public.ix_file_metadata_cache_sha256_hash_unique;
create index concurrently ix_file_metadata_cache_sha256_hash_plain
    on public.file_metadata_cache (sha256_hash);

-- part: transaction
drop index if exists public.ix_file_metadata_cache_sha256_hash;
alter index public.ix_file_metadata_cache_sha256_hash_plain rename to ix_file_metadata_cache_sha256_hash;

-- To `text`, which rewrites neither table nor index. `tags` stays as it is: the product compares
-- it with `&&`, and text[] against varchar[] has no operator.
alter table public.file_metadata_cache
    alter column filename type text,
    alter column storage_filename type text,
    alter column mime_type type text,
    alter column username type text,
    alter column storage_element_id type text,
    alter column storage_element_url type text,
    -- Known only where the element's own configuration says it; better unknown than guessed.
    alter column storage_element_url drop not null,
    -- All nullable or with a default: the product writes rows by its own model, and a row
    -- without event_id is its.
    add column if not exists event_id uuid,
    add column if not exists stream text,
    add column if not exists stream_sequence bigint,
    add column if not exists source_position bigint,
    add column if not exists content_version text,
    add column if not exists created_by_id text,
    add column if not exists created_by_fullname text,
    add column if not exists metadata jsonb,
    -- How many tags were more, or longer, than this table takes.
    add column if not exists tags_dropped integer not null default 0,
    -- The fields that were left out of an oversized message, with their digests.
    add column if not exists omitted jsonb;

-- part: transaction
alter table public.search_history
    alter column username type text,
    alter column search_mode type text,
    add column if not exists event_id uuid;

-- part: transaction
alter table public.download_statistics
    alter column username type text,
    alter column storage_element_id type text,
    add column if not exists event_id uuid;

-- part: concurrently
-- An event that is delivered again finds its row.
create unique index concurrently search_history_event_id_key on public.search_history (event_id)
where event_id is not null;
create unique index concurrently download_statistics_event_id_key on public.download_statistics (event_id)
where event_id is not null;
