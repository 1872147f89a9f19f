-- Rows that the narrower tables can't hold are neither cut nor dropped: they are listed.

-- part: refuse, rows of file_metadata_cache are too long for the narrower columns (filename 255, storage_filename 512, mime_type 127, username 255, storage_element_id 50, storage_element_url 512) or have no storage_element_url; delete them (they can be projected again) or keep this version
select id || ': ' || left(filename, 60)
    || case when storage_element_url is null then ', no storage_element_url' else '' end
from public.file_metadata_cache
where length(filename) > 255
    or length(storage_filename) > 512
    or length(mime_type) > 127
    or length(username) > 255
    or length(storage_element_id) > 50
    or length(storage_element_url) > 512
    or storage_element_url is null
order by id;

-- part: refuse, files of file_metadata_cache have the same sha256_hash, which has to be unique again; delete all but one of each (they can be projected again) or keep this version
select sha256_hash || ': ' || count(*) || ' files, of them ' || min(id) || ' and ' || max(id)
from public.file_metadata_cache
group by sha256_hash
having count(*) > 1
order by sha256_hash;

-- part: refuse, rows of search_history are too long for the narrower columns (username 255, search_mode 20); delete them or keep this version
select 'id ' || id || ': ' || left(search_mode, 40) || ', user ' || left(coalesce(username, ''), 40)
from public.search_history
where length(username) > 255 or length(search_mode) > 20
order by search_history.id;

-- part: refuse, rows of download_statistics are too long for the narrower columns (username 255, storage_element_id 50); delete them or keep this version
select 'id ' || id || ': element ' || left(storage_element_id, 60) || ', user ' || left(coalesce(username, ''), 40)
from public.download_statistics
where length(username) > 255 or length(storage_element_id) > 50
order by download_statistics.id;

-- part: loses, rows say from which event they came, which the narrower tables can't; projecting the streams again brings it back, and doubles searches and downloads unless they are deleted first
select 'file ' || id || ': event ' || event_id from public.file_metadata_cache where event_id is not null
union all
select 'search ' || id || ': event ' || event_id from public.search_history where event_id is not null
union all
select 'download ' || id || ': event ' || event_id from public.download_statistics where event_id is not null;

-- part: concurrently
drop index concurrently if exists public.ix_file_metadata_cache_sha256_hash_plain;
create unique index concurrently ix_file_metadata_cache_sha256_hash_unique
    on public.file_metadata_cache (sha256_hash);

-- part: transaction
drop index if exists public.download_statistics_event_id_key;
alter table public.download_statistics
    drop column if exists event_id,
    alter column storage_element_id type varchar(50),
    alter column username type varchar(255);

-- part: transaction
drop index if exists public.search_history_event_id_key;
alter table public.search_history
    drop column if exists event_id,
    alter column search_mode type varchar(20),
    alter column username type varchar(255);

-- part: transaction
drop index if exists public.ix_file_metadata_cache_sha256_hash;
alter index public.ix_file_metadata_cache_sha256_hash_unique rename to ix_file_metadata_cache_sha256_hash;
alter table public.file_metadata_cache
    drop column if exists omitted,
    drop column if exists tags_dropped,
    drop column if exists metadata,
    drop column if exists created_by_fullname,
    drop column if exists created_by_id,
    drop column if exists content_version,
    drop column if exists source_position,
    drop column if exists stream_sequence,
    drop column if exists stream,
    drop column if exists event_id,
    alter column storage_element_url set not null,
    alter column storage_element_url type varchar(512),
    alter column storage_element_id type varchar(50),
    alter column username type varchar(255),
    alter column mime_type type varchar(127),
    alter column storage_filename type varchar(512),
    alter column filename type varchar(255);
