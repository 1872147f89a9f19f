-- No `cascade`: what somebody else hung on these tables stops the step and is named.
drop table public.download_statistics;
drop table public.search_history;
drop table public.file_metadata_cache;
