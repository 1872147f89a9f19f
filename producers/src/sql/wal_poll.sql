-- One poll of a WAL table.
-- $1, $2: first and last position of each wanted range, ascending; $3: the most rows.
--
-- A lateral range scan of the position index: `or position = any(…)` would read the whole index.
-- The limit stands inside the lateral too, so that a long backlog is not read to its end.
-- A file's state is what this very statement sees in _files: that is what rows without a full
-- state of their own are published with.
-- Times are cut to the years that RFC 3339 can write.
select w.position,
       w.transaction_id,
       w.operation_type,
       w.status,
       w.file_id,
       w.operation_data::text as operation_data,
       w.error_message,
       least(greatest(w.started_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00') as started_at,
       -- greatest and least pass over a null, which must stay one.
       case when w.completed_at is not null
            then least(greatest(w.completed_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00')
       end as completed_at,
       w.duration_ms,
       w.user_id,
       f.file_id as file_present,
       f.original_filename,
       f.storage_filename,
       f.storage_path,
       f.file_size,
       f.content_type,
       f.checksum,
       least(greatest(f.created_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00') as created_at,
       least(greatest(f.updated_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00') as updated_at,
       f.created_by_id,
       f.created_by_username,
       f.created_by_fullname,
       f.description,
       f.version,
       f.metadata_json::text as metadata
from (
    select r.position, r.transaction_id, r.operation_type, r.status, r.file_id, r.operation_data,
           r.error_message, r.started_at, r.completed_at, r.duration_ms, r.user_id
    from unnest($1::bigint[], $2::bigint[]) as wanted(first, last)
    cross join lateral (
        select wal.position, wal.transaction_id, wal.operation_type, wal.status, wal.file_id,
               wal.operation_data, wal.error_message, wal.started_at, wal.completed_at,
               wal.duration_ms, wal.user_id
        from public.{prefix}_wal wal
        where wal.position between wanted.first and wanted.last
        order by wal.position
        limit $3
    ) r
    order by r.position
    limit $3
) w
left join public.{prefix}_files f on f.file_id = w.file_id
order by w.position
