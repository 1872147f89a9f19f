-- part: transaction
drop trigger if exists {prefix}_wal_finished_unchanged on public.{prefix}_wal;
drop function if exists public.{prefix}_wal_finished_unchanged();
