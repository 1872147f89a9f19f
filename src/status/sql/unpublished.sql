-- Finished rows without a message: above $1 (the highest position in the stream), and in the ranges
-- from $2 to $3 (those missing below it). $4: the most rows that are counted.
select count(*) as rows,
       extract(epoch from clock_timestamp() - min(u.at))::float8 as oldest
from (
    (
        select {time} as at
        from public.{table} t
        where t.position > $1
        order by t.position
        limit $4
    )
    union all
    (
        select late.at
        from unnest($2::bigint[], $3::bigint[]) as missing (first, last)
        cross join lateral (
            select {time} as at
            from public.{table} t
            where t.position between missing.first and missing.last
        ) late
        limit $4
    )
    limit $4
) u
