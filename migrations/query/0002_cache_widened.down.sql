-- Refuses rows that the narrower tables can't hold (too long, no url, the same content twice)
-- instead of cutting or dropping them.
drop index public.download_statistics_event_id_key;
drop index public.search_history_event_id_key;

alter table public.download_statistics
    drop column event_id,
    alter column storage_element_id type varchar(50),
    alter column username type varchar(255);

alter table public.search_history
    drop column event_id,
    alter column search_mode type varchar(20),
    alter column username type varchar(255);

alter table public.file_metadata_cache
    drop column omitted,
    drop column tags_dropped,
    drop column metadata,
    drop column created_by_fullname,
    drop column created_by_id,
    drop column content_version,
    drop column source_position,
    drop column stream_sequence,
    drop column stream,
    drop column event_id,
    alter column storage_element_url set not null,
    alter column storage_element_url type varchar(512),
    alter column storage_element_id type varchar(50),
    alter column username type varchar(255),
    alter column mime_type type varchar(127),
    alter column storage_filename type varchar(512),
    alter column filename type varchar(255);

drop index public.ix_file_metadata_cache_sha256_hash;
create unique index ix_file_metadata_cache_sha256_hash on public.file_metadata_cache (sha256_hash);
