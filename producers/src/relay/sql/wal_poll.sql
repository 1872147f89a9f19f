-- One poll of a WAL table.
-- $1, $2: first and last position of each wanted range, ascending; $3: the most rows.
--
-- A lateral range scan of the position index: `or position = any(…)` would read the whole index.
-- The limit stands inside the lateral too, so that a long backlog is not read to its end.
-- A file's state is what this very statement sees in _files: that is what rows without a full
-- state of their own are published with.
-- A text of more than 4 MiB can't be in a message: it is measured here and stays here, so that one row
-- does not take the relay's memory.
-- Texts stand in braces (see texts.rs).
-- `database_role` stands without its table: a table that is not migrated yet has no such column, and then it
-- is the null before it.
-- Times are cut to the years that RFC 3339 can write.
select w.position,
       w.transaction_id,
       {w.operation_type} as operation_type,
       {w.status} as status,
       w.file_id,
       case when octet_length(o.text) <= 4194304 then {o.text} end as operation_data,
       case when octet_length(w.error_message) <= 4194304 then {w.error_message} end as error_message,
       least(greatest(w.started_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00') as started_at,
       -- greatest and least pass over a null, which must stay one.
       case when w.completed_at is not null
            then least(greatest(w.completed_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00')
       end as completed_at,
       w.duration_ms,
       {w.user_id} as user_id,
       {w.database_role} as database_role,
       f.file_id as file_present,
       {f.original_filename} as original_filename,
       {f.storage_filename} as storage_filename,
       {f.storage_path} as storage_path,
       f.file_size,
       {f.content_type} as content_type,
       {f.checksum} as checksum,
       least(greatest(f.created_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00') as created_at,
       least(greatest(f.updated_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00') as updated_at,
       {f.created_by_id} as created_by_id,
       {f.created_by_username} as created_by_username,
       {f.created_by_fullname} as created_by_fullname,
       case when octet_length(f.description) <= 4194304 then {f.description} end as description,
       {f.version} as version,
       case when octet_length(m.text) <= 4194304 then {m.text} end as metadata,
       -- What is too large to be fetched: field, bytes and SHA-256 of its text.
       array_remove(array[
           case when octet_length(o.text) > 4194304
                 then 'operation.data ' || octet_length(convert_to(o.text, 'UTF8')) || ' '
                      || encode(sha256(convert_to(o.text, 'UTF8')), 'hex') end,
           case when octet_length(w.error_message) > 4194304
                 then 'operation.error_message ' || octet_length(convert_to(w.error_message, 'UTF8')) || ' '
                      || encode(sha256(convert_to(w.error_message, 'UTF8')), 'hex') end,
           case when octet_length(f.description) > 4194304
                 then 'file.description ' || octet_length(convert_to(f.description, 'UTF8')) || ' '
                      || encode(sha256(convert_to(f.description, 'UTF8')), 'hex') end,
           case when octet_length(m.text) > 4194304
                 then 'file.metadata ' || octet_length(convert_to(m.text, 'UTF8')) || ' '
                      || encode(sha256(convert_to(m.text, 'UTF8')), 'hex') end
       ], null) as large
from (
    select r.position, r.transaction_id, r.operation_type, r.status, r.file_id, r.operation_data,
           r.error_message, r.started_at, r.completed_at, r.duration_ms, r.user_id, r.database_role
    from unnest($1::bigint[], $2::bigint[]) as wanted(first, last)
    cross join (select null::text as database_role) as absent
    cross join lateral (
        select wal.position, wal.transaction_id, wal.operation_type, wal.status, wal.file_id,
               wal.operation_data, wal.error_message, wal.started_at, wal.completed_at,
               wal.duration_ms, wal.user_id, database_role
        from public.{prefix}_wal wal
        where wal.position between wanted.first and wanted.last
        order by wal.position
        limit $3
    ) r
    order by r.position
    limit $3
) w
left join public.{prefix}_files f on f.file_id = w.file_id
-- Each document becomes text once.
cross join lateral (select w.operation_data::text as text offset 0) o
cross join lateral (select f.metadata_json::text as text offset 0) m
order by w.position
