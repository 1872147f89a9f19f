-- The oldest transaction that keeps others from reading one of the tables $1, and which table. Prepared ones have no session.
select c.relname::text as "table",
       l.pid,
       coalesce(a.usename, p.owner)::text as "user",
       nullif(a.application_name, '') as application,
       host(a.client_addr) as address,
       a.state,
       extract(epoch from clock_timestamp() - coalesce(a.xact_start, p.prepared))::float8 as seconds,
       coalesce(a.backend_xid, p.transaction)::text as transaction,
       p.gid as prepared
from pg_locks l
join pg_class c on c.oid = l.relation and c.relnamespace = 'public'::regnamespace and c.relname = any($1)
left join pg_stat_activity a on a.pid = l.pid
-- A prepared transaction has no session; its lock on its own id identifies it.
left join pg_locks o
  on l.pid is null and o.pid is null and o.locktype = 'transactionid' and o.virtualtransaction = l.virtualtransaction
left join pg_prepared_xacts p on p.transaction = o.transactionid
where l.granted
  and l.locktype = 'relation'
  and l.mode = 'AccessExclusiveLock'
  and l.database = (select oid from pg_database where datname = current_database())
order by seconds desc nulls last, l.pid, c.relname
limit 1
