-- Which role of the database wrote a row: what a row says about its actor is the word of whoever may write.

-- part: transaction
-- A moment: a column without a default changes the catalogue only. Rows that are there say nothing.
alter table public.event_outbox add column if not exists database_role text;

-- The role that logged in, whatever role it has taken since. A supplied value is ignored, so this is no
-- default. It never raises.
create or replace function public.event_outbox_database_role() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    new.database_role := session_user;
    return new;
end
$$;

-- A trigger fires without this right; nobody has another use for the function.
revoke execute on function public.event_outbox_database_role() from public;

drop trigger if exists event_outbox_database_role on public.event_outbox;
create trigger event_outbox_database_role
before insert on public.event_outbox
for each row execute function public.event_outbox_database_role();

-- `always`: also where a restore or a replication role has switched ordinary triggers off.
alter table public.event_outbox enable always trigger event_outbox_database_role;
