-- One poll of an outbox table; see wal_poll.sql.
-- $1, $2: first and last position of each wanted range, ascending; $3: the most rows.
select r.position,
       r.event_id,
       r.entity,
       r.action,
       r.ordering_key,
       r.subject,
       r.data::text as data,
       r.actor::text as actor,
       r.request_id,
       r.traceparent,
       least(greatest(r.occurred_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00') as occurred_at
from unnest($1::bigint[], $2::bigint[]) as wanted(first, last)
cross join lateral (
    select o.position, o.event_id, o.entity, o.action, o.ordering_key, o.subject, o.data, o.actor,
           o.request_id, o.traceparent, o.occurred_at
    from public.event_outbox o
    where o.position between wanted.first and wanted.last
    order by o.position
    limit $3
) r
order by r.position
limit $3
