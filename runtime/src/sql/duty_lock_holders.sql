-- Who holds an advisory lock of this database, and whether that session's role may hold it. $1: its key; $2: the table
-- that holds the key, with its schema: who may write there may hold the lock.
-- A role that may not see other roles' sessions sees their process and user alone.
select l.pid,
       a.usename::text as "user",
       nullif(a.application_name, '') as application,
       host(a.client_addr) as address,
       a.state,
       extract(epoch from clock_timestamp() - a.xact_start)::float8 as seconds,
       a.backend_xid::text as transaction,
       null::text as prepared,
       case
           -- A prepared transaction, or a mode that none of ours asks for.
           when l.pid is null or l.mode <> 'ExclusiveLock' then true
           -- It has just ended.
           when a.usesysid is null then false
           else not coalesce(has_table_privilege(a.usesysid, to_regclass($2)::oid, 'update'), false)
       end as intruder
from pg_locks l
left join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory'
  and l.granted
  and l.objsubid = 1
  and l.database = (select oid from pg_database where datname = current_database())
  and l.classid::bigint = ($1::bigint >> 32) & 4294967295
  and l.objid::bigint = $1::bigint & 4294967295
order by intruder
limit 1
