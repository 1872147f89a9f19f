-- The rows that the product's own services write. A swap of rebuilt tables brings them along while everybody
-- waits, and has to find them among all others. Rows of events are not in these indexes.

-- part: concurrently
create index concurrently file_metadata_cache_product_rows on public.file_metadata_cache (id)
where event_id is null;
create index concurrently search_history_product_rows on public.search_history (id)
where event_id is null;
create index concurrently download_statistics_product_rows on public.download_statistics (id)
where event_id is null;
