-- part: loses, the tables hold rows; back them up, and drop the database where all of it shall go
select '{prefix}_wal ' || transaction_id from public.{prefix}_wal
union all
select '{prefix}_files ' || file_id from public.{prefix}_files
union all
select '{prefix}_config ' || id from public.{prefix}_config;

-- part: transaction
-- No `cascade`: what somebody else hung on these tables stops the step and is named.
drop table public.{prefix}_wal;
drop table public.{prefix}_files;
drop table public.{prefix}_config;
