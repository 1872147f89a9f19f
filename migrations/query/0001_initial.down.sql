-- part: loses, the tables hold rows; back them up, and drop the database where all of it shall go
select 'download_statistics ' || id from public.download_statistics
union all
select 'search_history ' || id from public.search_history
union all
select 'file_metadata_cache ' || id from public.file_metadata_cache;

-- part: transaction
-- No `cascade`: what somebody else hung on these tables stops the step and is named.
drop table public.download_statistics;
drop table public.search_history;
drop table public.file_metadata_cache;
