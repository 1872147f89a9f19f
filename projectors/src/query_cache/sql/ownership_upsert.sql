-- Who owns the files of a batch, one item of each array a file, in the order of their ids: workers
-- take these locks in that order and hold no others before them.
-- An item without a creation time claims nothing: its file is gone, which counts only where this
-- element owns it. So does a lost claim whose file was gone in between ($6).
with claims as (
    select * from unnest($1::uuid[], $2::timestamptz[], $3::boolean[], $4::bigint[])
        as claim (file_id, created_at, gone, sequence)
),
owned as (
    insert into file_ownership as owned
        (file_id, created_at, element, deleted, stream_sequence)
    select c.file_id, coalesce(c.created_at, '-infinity'), $5, coalesce(c.gone, true),
           coalesce(c.sequence, 0)
    from claims c
    where c.created_at is not null or exists (
        select from file_ownership o where o.file_id = c.file_id and o.element = $5
    )
    order by c.file_id
    on conflict (file_id) do update set
        created_at = greatest(owned.created_at, excluded.created_at),
        element = excluded.element,
        deleted = excluded.deleted or excluded.created_at < owned.created_at,
        stream_sequence = case when excluded.created_at < owned.created_at
            then owned.stream_sequence else excluded.stream_sequence end
        where (excluded.created_at, excluded.element) >= (owned.created_at, owned.element)
            or owned.element = excluded.element and not owned.deleted
                and (excluded.created_at = '-infinity' or owned.file_id = any($6))
    returning owned.file_id, owned.created_at
)
select o.file_id, coalesce(o.created_at = c.created_at, false)
from owned o join claims c using (file_id)
