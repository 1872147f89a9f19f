-- Transactions of others that hold a lock on the tables of an element, and for how long they have
-- been open. Prepared ones have no session. A role that may not see other roles' sessions gets
-- their locks without anything else.
-- $1, $2: the tables, as text with their schema.
select l.pid,
       coalesce(nullif(a.application_name, ''), a.backend_type) as application,
       a.usename::text as "user",
       a.state,
       extract(epoch from clock_timestamp() - coalesce(a.xact_start, p.prepared))::float8 as age
from (
    select distinct pid, virtualtransaction
    from pg_locks
    where locktype = 'relation' and granted
      and database = (select oid from pg_database where datname = current_database())
      and relation in (to_regclass($1), to_regclass($2))
      and pid is distinct from pg_backend_pid()
) l
left join pg_stat_activity a on a.pid = l.pid
-- The virtual transaction of a prepared one is its id.
left join pg_prepared_xacts p
  on l.pid is null and l.virtualtransaction = '-1/' || p.transaction
-- Autovacuum and its like do nobody's operation. Locks and sessions are not read at one moment: a
-- session that is known and in no transaction has ended the one that held the lock.
where coalesce(a.backend_type, 'client backend') = 'client backend'
  and (l.pid is null or a.xact_start is not null or a.query = '<insufficient privilege>')
order by age desc nulls first, l.pid
limit 1
