-- The positions are lost: after another `up` the rows are numbered anew, which is not the order
-- that a stream may already hold. The relay then sees a source that was set back, and stops.
drop trigger zzz_{prefix}_wal_position on public.{prefix}_wal;
drop function public.{prefix}_wal_position();
alter table public.{prefix}_wal drop constraint {prefix}_wal_position_when_finished;
drop index public.{prefix}_wal_position_key;
alter table public.{prefix}_wal drop column position;
drop sequence public.{prefix}_wal_position_seq;
