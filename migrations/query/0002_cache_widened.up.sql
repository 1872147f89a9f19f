-- Makes room for every row that an element can legally hold, and for where it came from.

-- Two files may have the same content. The index keeps its name: a later migration of the product
-- drops it by name.
drop index public.ix_file_metadata_cache_sha256_hash;
create index ix_file_metadata_cache_sha256_hash on public.file_metadata_cache (sha256_hash);

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
    add column event_id uuid,
    add column stream text,
    add column stream_sequence bigint,
    add column source_position bigint,
    add column content_version text,
    add column created_by_id text,
    add column created_by_fullname text,
    add column metadata jsonb,
    -- How many tags were more, or longer, than this table takes.
    add column tags_dropped integer not null default 0,
    -- The fields that were left out of an oversized message, with their digests.
    add column omitted jsonb;

alter table public.search_history
    alter column username type text,
    alter column search_mode type text,
    add column event_id uuid;

alter table public.download_statistics
    alter column username type text,
    alter column storage_element_id type text,
    add column event_id uuid;

-- An event that is delivered again finds its row.
create unique index search_history_event_id_key on public.search_history (event_id)
where event_id is not null;
create unique index download_statistics_event_id_key on public.download_statistics (event_id)
where event_id is not null;
