-- Who holds a session advisory lock of this database. $1: its key.
select l.pid, a.application_name as name, host(a.client_addr) as address
from pg_locks l
left join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory'
  and l.granted
  and l.objsubid = 1
  and l.database = (select oid from pg_database where datname = current_database())
  and l.classid::bigint = ($1::bigint >> 32) & 4294967295
  and l.objid::bigint = $1::bigint & 4294967295
