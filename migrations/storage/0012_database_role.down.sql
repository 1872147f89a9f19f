-- part: transaction
drop trigger if exists {prefix}_wal_database_role on public.{prefix}_wal;
drop function if exists public.{prefix}_wal_database_role();
alter table public.{prefix}_wal drop column if exists database_role;
