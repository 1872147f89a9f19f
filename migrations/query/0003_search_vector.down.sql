-- The vectors that were filled stay: they are data of the product's own column.
drop trigger if exists file_metadata_cache_search_vector_stale on public.file_metadata_cache;
drop trigger if exists file_metadata_cache_search_vector on public.file_metadata_cache;
drop function if exists public.file_metadata_cache_fill_search_vector();
drop function if exists public.artstore_search_vector(text, text, text[]);
