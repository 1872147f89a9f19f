-- Every transaction but our own that holds a lock on one of the tables $1, the longest first. Prepared ones have no session.
select l.pid,
       coalesce(a.usename, p.owner)::text as "user",
       nullif(a.application_name, '') as application,
       host(a.client_addr) as address,
       a.state,
       extract(epoch from clock_timestamp() - coalesce(a.xact_start, p.prepared))::float8 as seconds,
       coalesce(a.backend_xid, p.transaction)::text as transaction,
       p.gid as prepared,
       array_agg(distinct c.relname::text) as tables
from pg_catalog.pg_locks l
join pg_catalog.pg_class c
  on c.oid = l.relation and c.relnamespace = 'public'::regnamespace and c.relname = any($1)
left join pg_catalog.pg_stat_activity a on a.pid = l.pid
-- A prepared transaction has no session; its lock on its own id identifies it.
left join pg_catalog.pg_locks o
  on l.pid is null and o.pid is null and o.locktype = 'transactionid' and o.virtualtransaction = l.virtualtransaction
left join pg_catalog.pg_prepared_xacts p on p.transaction = o.transactionid
where l.locktype = 'relation'
  and l.granted
  and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
  and l.pid is distinct from pg_backend_pid()
group by l.pid, a.usename, p.owner, a.application_name, a.client_addr, a.state, a.xact_start, p.prepared,
         -- As text: a transaction's id can't be sorted.
         coalesce(a.backend_xid, p.transaction)::text, p.gid
order by coalesce(a.xact_start, p.prepared) nulls last, l.pid
