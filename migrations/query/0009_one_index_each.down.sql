-- part: concurrently
create index concurrently idx_search_history_created on public.search_history (created_at);
create index concurrently ix_search_history_username on public.search_history (username);
create index concurrently ix_download_statistics_file_id on public.download_statistics (file_id);
create index concurrently ix_download_statistics_storage_element_id on public.download_statistics (storage_element_id);
create index concurrently ix_download_statistics_username on public.download_statistics (username);
create index concurrently ix_file_metadata_cache_username on public.file_metadata_cache (username);
create index concurrently ix_file_metadata_cache_mime_type on public.file_metadata_cache (mime_type);
create index concurrently idx_file_metadata_mime_type on public.file_metadata_cache (mime_type, created_at);
create index concurrently ix_file_metadata_cache_storage_element_id on public.file_metadata_cache (storage_element_id);
