-- Operations that are pending, the oldest first, with what _files says of each.
-- $1: one operation, or null for all; $2: the most rows.
--
-- A create may have been opened before its file had an id: its name on disk is unique.
-- What was asked for is compared here, where jsonb equals jsonb whatever its numbers look like.
-- A null in the data of an update means: as it is.
-- The data itself is read for our own marker alone. No row of ours is as large as 4 MiB; one that is stays
-- in the database. Texts stand in braces (see texts.rs).
select w.transaction_id,
       {w.operation_type} as operation_type,
       w.file_id,
       case when octet_length(o.text) <= 4194304 then {o.text} end as operation_data,
       least(greatest(w.started_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00') as started_at,
       {w.user_id} as user_id,
       -- `infinity` can't be subtracted from.
       extract(epoch from clock_timestamp()
           - least(greatest(w.started_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00'))::float8 as age,
       f.file_id as file_present,
       {f.original_filename} as original_filename,
       {f.storage_filename} as storage_filename,
       f.file_size,
       {f.checksum} as checksum,
       least(greatest(f.updated_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00') as updated_at,
       f.created_at > w.started_at as came_later,
       w.operation_data ->> 'storage_filename' is not null as names_asked,
       f.storage_filename = w.operation_data ->> 'storage_filename'
           and f.original_filename
               = coalesce(w.operation_data ->> 'original_filename', f.original_filename) as names_same,
       case when w.operation_data ->> 'description' is not null
            then f.description is not distinct from w.operation_data ->> 'description'
       end as description_same,
       case when w.operation_data ->> 'version' is not null
            then f.version is not distinct from w.operation_data ->> 'version'
       end as version_same,
       case when w.operation_data ->> 'metadata' is not null
            then f.metadata_json is not distinct from w.operation_data -> 'metadata'
       end as metadata_same,
       other.transaction_id as other_delete
from (
    select p.transaction_id, p.operation_type, p.operation_data, p.started_at, p.user_id, p.file_id
    from public.{prefix}_wal p
    where p.status = 'pending' and ($1::uuid is null or p.transaction_id = $1)
    order by p.started_at, p.transaction_id
    limit $2
) w
cross join lateral (select w.operation_data::text as text offset 0) o
left join lateral (
    select n.file_id
    from public.{prefix}_files n
    where w.file_id is null
      and w.operation_type = 'file_create'
      and n.storage_filename = w.operation_data ->> 'storage_filename'
) named on true
left join public.{prefix}_files f on f.file_id = coalesce(w.file_id, named.file_id)
left join lateral (
    -- Another delete of the file, that took effect or may have, since this one began.
    select d.transaction_id
    from public.{prefix}_wal d
    where d.file_id = w.file_id
      and d.transaction_id <> w.transaction_id
      and d.operation_type = 'file_delete'
      and d.status in ('pending', 'committed')
      and (d.completed_at is null or d.completed_at >= w.started_at)
    order by d.started_at
    limit 1
) other on true
order by w.started_at, w.transaction_id
