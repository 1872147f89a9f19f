-- The vectors that were filled stay: they are data of the product's own column.
drop trigger file_metadata_cache_search_vector_stale on public.file_metadata_cache;
drop trigger file_metadata_cache_search_vector on public.file_metadata_cache;
drop function public.file_metadata_cache_fill_search_vector();
drop function public.artstore_search_vector(text, text, text[]);
