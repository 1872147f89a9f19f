-- Which role of the database finished an operation: what a row says about its actor is the word of whoever
-- may write.

-- part: transaction
-- A moment: a column without a default changes the catalogue only. Rows that are there say nothing. The
-- product's own statements name their columns and leave this one out.
alter table public.{prefix}_wal add column if not exists database_role text;

-- The role that logged in, whatever role it has taken since; once finished, it stays. A supplied value is
-- ignored, so this is no default. It never raises.
create or replace function public.{prefix}_wal_database_role() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'UPDATE' and old.status in ('committed', 'rolled_back', 'failed') then
        new.database_role := old.database_role;
    else
        new.database_role := session_user;
    end if;
    return new;
end
$$;

-- A trigger fires without this right; nobody has another use for the function.
revoke execute on function public.{prefix}_wal_database_role() from public;

drop trigger if exists {prefix}_wal_database_role on public.{prefix}_wal;
create trigger {prefix}_wal_database_role
before insert or update on public.{prefix}_wal
for each row execute function public.{prefix}_wal_database_role();

-- `always`: also where a restore or a replication role has switched ordinary triggers off.
alter table public.{prefix}_wal enable always trigger {prefix}_wal_database_role;
