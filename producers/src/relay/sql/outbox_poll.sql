-- One poll of an outbox table; see wal_poll.sql.
-- $1, $2: first and last position of each wanted range, ascending; $3: the most rows.
-- `database_role` stands without its table: a table that is not migrated yet has no such column, and then it
-- is the null before it.
select r.position,
       r.event_id,
       {r.entity} as entity,
       {r.action} as action,
       r.ordering_key,
       {r.database_role} as database_role,
       {left(r.subject, 255)} as subject,
       case when octet_length(d.text) <= 4194304 then {d.text} end as data,
       -- One so large is no actor that can be read: its beginning is shown.
       case when octet_length(a.text) <= 4194304 then {a.text} else {left(a.text, 1000)} end as actor,
       case when octet_length(r.request_id) <= 4194304 then {r.request_id} end as request_id,
       case when octet_length(r.traceparent) <= 4194304 then {r.traceparent} end as traceparent,
       array_remove(array[
           case when octet_length(d.text) > 4194304
                 then 'data ' || octet_length(convert_to(d.text, 'UTF8')) || ' '
                      || encode(sha256(convert_to(d.text, 'UTF8')), 'hex') end,
           case when octet_length(r.request_id) > 4194304
                 then 'operation.request_id ' || octet_length(convert_to(r.request_id, 'UTF8')) || ' '
                      || encode(sha256(convert_to(r.request_id, 'UTF8')), 'hex') end
       ], null) as large,
       least(greatest(r.occurred_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00') as occurred_at
from unnest($1::bigint[], $2::bigint[]) as wanted(first, last)
cross join (select null::text as database_role) as absent
cross join lateral (
    select o.position, o.event_id, o.entity, o.action, o.ordering_key, o.subject, o.data, o.actor,
           o.request_id, o.traceparent, o.occurred_at, database_role
    from public.event_outbox o
    where o.position between wanted.first and wanted.last
    order by o.position
    limit $3
) r
cross join lateral (select r.data::text as text offset 0) d
cross join lateral (select r.actor::text as text offset 0) a
order by r.position
limit $3
