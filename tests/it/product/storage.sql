-- Rows in every table of an element. Operations ended in another order than they began, some at
-- the same moment, some without a time; some never did.
insert into public.{prefix}_config (id, current_mode, is_master, total_files, total_size_bytes)
values (1, 'edit', true, 300, 1500);

insert into public.{prefix}_files (file_id, original_filename, storage_filename, file_size, content_type, created_at, updated_at, created_by_id, created_by_username, description, storage_path, checksum, metadata_json)
select md5('own' || n)::uuid, 'отчёт ' || n || '.pdf', 'report_' || n || '.pdf', n, 'application/pdf', timestamptz '2025-01-01' + n * interval '1 second', timestamptz '2025-02-01', '17', 'ann', 'description ' || n, '/data/' || n, md5(n::text),
    case n % 3 when 0 then 'null'::jsonb when 1 then null else '{"tags": ["a"]}' end
from generate_series(1, 300) as n;

insert into public.{prefix}_wal (transaction_id, operation_type, status, file_id, operation_data, started_at, completed_at, duration_ms, user_id)
select md5('operation' || n)::uuid, 'file_create',
    (array['committed', 'committed', 'committed', 'rolled_back', 'failed', 'pending'])[n % 6 + 1],
    md5('own' || n % 310)::uuid, jsonb_build_object('content_type', 'application/pdf'),
    timestamptz '2025-01-01' + n * interval '1 second',
    case when n % 6 = 5 or n % 50 = 0 then null
        else timestamptz '2025-01-02' + (n * 7919 % 400) * interval '1 second' end,
    5, 'before'
from generate_series(1, 900) as n;

-- Files without an operation: the product's own rebuild of the table leaves such.
insert into public.{prefix}_files (file_id, original_filename, storage_filename, file_size, content_type, created_by_id, created_by_username, storage_path, checksum)
select md5('untold' || n)::uuid, 'untold', 'untold ' || n, 1, 'text/plain', '17', 'ann', '/data', 'c'
from generate_series(1, 3) as n;
