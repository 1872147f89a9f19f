-- part: concurrently
drop index concurrently if exists public.file_metadata_cache_product_rows;
drop index concurrently if exists public.search_history_product_rows;
drop index concurrently if exists public.download_statistics_product_rows;
