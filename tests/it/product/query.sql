-- Rows in every table of the query module: the product's services wrote them.
insert into public.file_metadata_cache (id, filename, storage_filename, file_size, mime_type, sha256_hash, username, tags, description, storage_element_id, storage_element_url, created_at, updated_at, search_vector)
select md5('file' || n)::uuid::text, 'report ' || n || '.pdf', 'report_' || n || '.pdf', n, 'application/pdf', md5(n::text) || md5(n::text), 'ann', array['a', 'b'],
    case when n % 3 = 0 then null else 'description ' || n end, 'another_element', 'http://another', timestamptz '2025-01-01', timestamptz '2025-01-01', null
from generate_series(1, 200) as n;

insert into public.search_history (query_text, search_mode, filters_applied, results_count, response_time_ms, username)
select 'words ' || n, 'fulltext', '{}', n, 3, 'ann' from generate_series(1, 100) as n;

insert into public.download_statistics (file_id, bytes_transferred, download_time_ms, was_resumed, username, storage_element_id)
select md5('file' || n)::uuid::text, n, 3, false, 'ann', 'another_element' from generate_series(1, 100) as n;
