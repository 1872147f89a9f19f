-- One index for each question. Where an index is the beginning of a longer one, the longer one
-- answers for both; of two equal ones, the one named after its column stays, as most are.

-- part: concurrently
-- ix_search_history_created_at is equal
drop index concurrently if exists public.idx_search_history_created;
-- idx_search_history_username_created (username, created_at)
drop index concurrently if exists public.ix_search_history_username;
-- idx_download_stats_file_created, _storage_created and _username_created, each with created_at
drop index concurrently if exists public.ix_download_statistics_file_id;
drop index concurrently if exists public.ix_download_statistics_storage_element_id;
drop index concurrently if exists public.ix_download_statistics_username;

-- The cache is written for every file that changes anywhere, and each index is written with it.
-- What stays serves a filter or an order of the search that nothing else does: created_at,
-- (username, created_at), (storage_element_id, created_at), (file_size, created_at), updated_at,
-- filename, sha256_hash, tags, search_vector. Nobody asks for a type alone.
drop index concurrently if exists public.ix_file_metadata_cache_username;
drop index concurrently if exists public.ix_file_metadata_cache_mime_type;
drop index concurrently if exists public.idx_file_metadata_mime_type;
drop index concurrently if exists public.ix_file_metadata_cache_storage_element_id;
