-- The oldest transaction that holds the lock which nextval leaves on a sequence until it ends.
-- $1: the sequence, as text. Prepared ones have no session.
select l.pid,
       coalesce(a.usename, p.owner)::text as "user",
       nullif(a.application_name, '') as application,
       host(a.client_addr) as address,
       a.state,
       extract(epoch from clock_timestamp() - coalesce(a.xact_start, p.prepared))::float8 as seconds,
       coalesce(a.backend_xid, p.transaction)::text as transaction,
       p.gid as prepared
from (
    select distinct pid, virtualtransaction
    from pg_locks
    where granted
      and locktype = 'relation'
      and relation = $1::text::regclass::oid
      and mode <> 'AccessShareLock'
      and database = (select oid from pg_database where datname = current_database())
) l
left join pg_stat_activity a on a.pid = l.pid
-- A prepared transaction's lock on its own id identifies it.
left join pg_locks o
  on l.pid is null and o.pid is null and o.locktype = 'transactionid' and o.virtualtransaction = l.virtualtransaction
left join pg_prepared_xacts p on p.transaction = o.transactionid
order by seconds desc nulls last, l.pid
limit 1
