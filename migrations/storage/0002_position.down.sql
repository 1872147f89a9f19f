-- part: loses, finished rows have positions, in which a stream may hold them; after another `up` they are numbered anew, and the relay takes the element for one that was set back, and stops
select 'position ' || position || ': ' || transaction_id from public.{prefix}_wal
where position is not null
order by {prefix}_wal.position;

-- part: transaction
drop trigger if exists zzz_{prefix}_wal_position on public.{prefix}_wal;
drop function if exists public.{prefix}_wal_position();
alter table public.{prefix}_wal drop constraint if exists {prefix}_wal_position_when_finished;
drop index if exists public.{prefix}_wal_position_key;
alter table public.{prefix}_wal drop column if exists position;
drop sequence if exists public.{prefix}_wal_position_seq;
