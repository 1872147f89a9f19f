-- part: refuse, rows of search_history have a username or search_mode that an entry of a btree may not hold; delete them or keep this version
select 'id ' || id || ': mode ' || left(search_mode, 40) || ', user ' || left(coalesce(username, ''), 40)
from public.search_history
where octet_length(username) > 2600 or octet_length(search_mode) > 2600
order by search_history.id;

-- part: refuse, rows of download_statistics have a username or storage_element_id that an entry of a btree may not hold; delete them or keep this version
select 'id ' || id || ': element ' || left(storage_element_id, 60) || ', user ' || left(coalesce(username, ''), 40)
from public.download_statistics
where octet_length(username) > 2600 or octet_length(storage_element_id) > 2600
order by download_statistics.id;

-- part: concurrently
create index concurrently idx_search_history_username_created
    on public.search_history (username, created_at);
create index concurrently idx_search_history_mode on public.search_history (search_mode, created_at);
create index concurrently idx_download_stats_username_created
    on public.download_statistics (username, created_at);
create index concurrently idx_download_stats_storage_created
    on public.download_statistics (storage_element_id, created_at);
drop index concurrently if exists public.idx_search_history_username_spgist;
drop index concurrently if exists public.idx_search_history_mode_spgist;
drop index concurrently if exists public.idx_download_stats_username_spgist;
drop index concurrently if exists public.idx_download_stats_storage_spgist;
