-- part: loses, finished operations were pruned; without the record of it they look lost, and the relay takes a stream that lacks them for a good one
select 'pruned up to position ' || floor || ': ' || operations || ' operations'
from public.{prefix}_wal_pruned
where floor > 0
order by id;

-- part: transaction
drop table if exists public.{prefix}_wal_pruned;
